"""The largest values of a batch, as weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def top_share(value_N: Tensor, share: float) -> Tensor:
    """1 on exactly ceil(share * N) decision points of largest value (the earlier of equals), 0 elsewhere. [N]"""
    keep = math.ceil(round(share * len(value_N), 9))
    picks = value_N.argsort(descending=True, stable=True)[:keep]
    return torch.zeros(len(value_N)).index_fill(0, picks, 1.0)
