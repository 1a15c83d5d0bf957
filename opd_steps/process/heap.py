"""What becomes of memory that a process frees, by glibc's mallopt.

Blocks of a MiB and more go back to the kernel at once. If they stayed, a training's heap would be a tenth to a half empty: activations,
gradients and moments, of many sizes and ages, rarely fit where others were (docs/plan.md). But every page that comes again is zeroed anew,
a quarter of an optimizer step's time with a large vocabulary (docs/speed.md): where equal blocks come and go, they stay.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_KEPT = 1 << 30  # bytes of free memory that stay at most
_BLOCK, _CHUNK = 1 << 20, 1 << 25  # bytes of the largest block that stays: always, and among chunks of logits


def keep_freed_memory() -> None:
    """For this process; nothing happens where the C library knows no mallopt."""
    if mallopt := _mallopt():
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _BLOCK)


@contextmanager
def kept_chunks() -> Iterator[None]:
    """Meanwhile blocks of the size of a chunk stay as well."""
    mallopt = _mallopt() or (lambda name, value: None)
    mallopt(_MMAP_THRESHOLD, _CHUNK)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _BLOCK)


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    return getattr(ctypes.CDLL(None), "mallopt", None)
