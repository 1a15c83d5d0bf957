"""Flow matching as rows: the straight line from noise to an image, at random times."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from opd_steps.seeds import rng


def line(
    image_D: Tensor, draws: int, shift: float, *seed: object, noise_D: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(states [T, D], decisions [T, D], times [T, 2]) of T = `draws` steps of length 1, each from a point of the line along the line's own
    velocity, noise - image: what models/flow_steps.py reads as flow matching. A function of `seed`.

    Times are even but for chance, and shifted towards noise as a sampler's: sigma = shift u / (1 + (shift - 1) u).
    noise_D   where all the lines begin (reflow); None: each begins anew
    """
    draw = rng(*seed)
    even_T = (np.arange(draws) + draw.random(draws)) / draws
    sigma_T = torch.tensor(shift * even_T / (1 + (shift - 1) * even_T), dtype=torch.float32)
    fresh_TD = torch.tensor(draw.standard_normal((draws, len(image_D)), dtype=np.float32))
    noise_TD = fresh_TD if noise_D is None else noise_D.expand_as(fresh_TD)
    state_TD = image_D.lerp(noise_TD, sigma_T[:, None])
    return state_TD, state_TD - (noise_TD - image_D), torch.stack([sigma_T, sigma_T - 1], 1)
