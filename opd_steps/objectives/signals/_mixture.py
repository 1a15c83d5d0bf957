"""Mixtures of two distributions, in log space."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_mixture(share: float, loga: Tensor, logb: Tensor) -> Tensor:
    """log(share * a + (1 - share) * b), share in [0, 1]."""
    if share in (0.0, 1.0):  # no logarithm of 0
        return loga if share else logb
    return torch.logaddexp(math.log(share) + loga, math.log1p(-share) + logb)
