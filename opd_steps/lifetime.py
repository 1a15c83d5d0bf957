"""Processes that end with the one that started them, however that ends (Linux)."""

from __future__ import annotations

import ctypes

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def end_with_parent(number: int) -> None:
    """In a new child: have the kernel send it this signal when its parent is gone."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, number)
