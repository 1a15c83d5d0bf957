"""Means that may be over nothing."""

from __future__ import annotations

import math

from torch import Tensor


def mean(values: Tensor, where: Tensor | None = None) -> float:
    """Mean of the values, or of those where a mask is true, in fp64; nan over nothing."""
    chosen = values if where is None else values[where]
    return float(chosen.double().mean()) if len(chosen) else math.nan
