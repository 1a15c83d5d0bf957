"""Figures that may not be defined: None, which is left out of what is published. nan is none of them: it is a fault."""

from __future__ import annotations

from torch import Tensor


def mean(values: Tensor, where: Tensor | None = None) -> float | None:
    """Mean of the values, or of those where a mask is true, in fp64; None over nothing."""
    chosen = values if where is None else values[where]
    return float(chosen.double().mean()) if len(chosen) else None


def ratio(a: float, b: float) -> float | None:
    """a / b; None where b is 0."""
    return None if b == 0 else a / b
