"""Figures that may not be defined: None, which is left out of what is published. nan is none of them: it is a fault."""

from __future__ import annotations

import torch
from torch import Tensor


def mean(values: Tensor, where: Tensor | None = None) -> float | None:
    """Mean of the values, or of those where a mask is true, in fp64; None over nothing."""
    chosen = values if where is None else values[where]
    return float(chosen.double().mean()) if len(chosen) else None


def ratio(a: float, b: float) -> float | None:
    """a / b; None where b is 0."""
    return None if b == 0 else a / b


def pearson(x: Tensor, y: Tensor) -> float | None:
    """Correlation; None for fewer than two values, and where one side has no spread."""
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return None
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])
