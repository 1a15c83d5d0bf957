"""Are these weights numbers?"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.nn.utils import get_total_norm

from opd_steps.process import ranks


def not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """Name of the first floating-point tensor with a nan or an infinite value, else None; of sharded ones the same on every rank.

    One fast pass: where the norm of all of them is finite, so is each value. Where it is not, it may have overflowed: then each is asked.
    """
    named = [(name, tensor.detach()) for name, tensor in named if tensor.is_floating_point() and tensor.numel()]
    if not named or ranks.full(get_total_norm([tensor for _, tensor in named])).isfinite():
        return None
    return next((name for name, tensor in named if not ranks.full(tensor).isfinite().all()), None)
