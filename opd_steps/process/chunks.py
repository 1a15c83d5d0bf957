"""How many logits exist at once, in training and in what the plan says of it: no torch here."""

from __future__ import annotations

ELEMENTS = 1 << 22  # on a CPU: they stay near the core
ON_GPU = 16  # times as many fill a GPU
ROWS = 16  # decisions are a multiple of it: matrix products are made of such blocks
FEW = 128  # decisions below which products take notably longer, for each lays the weight out anew ...
MOST = (1 << 23) - 1  # ... so up to so many logits: larger blocks do not stay when they are freed (process.heap)


def decisions(vocab: int, cuda: bool) -> int:
    """Of one chunk [decisions, vocab], fp32."""
    many = max(ELEMENTS * (ON_GPU if cuda else 1) // vocab, min(FEW, MOST // vocab))
    return max(1, many // ROWS) * ROWS
