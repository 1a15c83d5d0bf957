"""One step of a rectified flow, from noise towards an image: as an ODE, or as the SDE with the same marginals (Flow-GRPO, arXiv 2505.05470)."""

from __future__ import annotations

import torch
from torch import Tensor

from opd_steps.nouns.dist import DiagGaussian


def transition(x_ND: Tensor, v_ND: Tensor, sigma_N: Tensor, next_N: Tensor, level: float) -> DiagGaussian:
    """x at sigma (1: noise, 0: image), velocity v = noise - image -> the distribution of x at `next`, with dt = next - sigma < 0:

    s = level sqrt(sigma / (1 - sigma)),   at sigma 1 with the next sigma below the line
    mean = x (1 + s^2 / (2 sigma) dt) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt,   std = s sqrt(-dt)

    A step that ends at 0 or below, and every step at level 0, is that of the ODE, x + dt v: nothing is drawn, and its std is 1, so that a
    KL between two of them is half the squared distance of their means ("mean matching", DiffusionOPD, arXiv 2605.15055). A step of length
    1, to sigma - 1, is x - v: its likelihood is flow matching.
    """
    dt_N = next_N - sigma_N
    square_N = level**2 * sigma_N / (1 - torch.where(sigma_N >= 1, next_N, sigma_N))
    square_N = square_N.masked_fill(is_ode(next_N, level), 0.0)
    drift_N = square_N / (2 * sigma_N) * dt_N
    mean_ND = x_ND * (1 + drift_N)[:, None] + v_ND * (dt_N + drift_N * (1 - sigma_N))[:, None]
    std_N = (square_N * -dt_N).sqrt().masked_fill(is_ode(next_N, level), 1.0)
    return DiagGaussian(mean_ND, std_N[:, None])


def is_ode(next_N: Tensor, level: float) -> Tensor:
    """Steps that draw nothing, [N] bool."""
    return next_N <= 0 if level else torch.ones_like(next_N, dtype=torch.bool)
