"""Memory that a training step frees stays with the process: it asks for the same sizes again a moment later.

glibc hands large blocks back to the kernel at once, and every page that comes again is zeroed anew: a quarter of an optimizer step's time
with a large vocabulary (docs/speed.md).
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_KEPT, _BLOCK = 1 << 30, 1 << 25  # bytes: kept at most, and the largest block that is kept: more than a chunk of logits has


def keep_freed_memory() -> None:
    """For this process; nothing happens where the C library knows no mallopt."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_MMAP_THRESHOLD, _BLOCK)
        mallopt(_TRIM_THRESHOLD, _KEPT)
