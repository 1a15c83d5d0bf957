"""A loss over a lazy categorical, chunk by chunk: the gradient is computed in the forward pass, [N, V] never exists.

Possible because the loss is a weighted sum whose weights are known beforehand: each chunk's gradient with respect to
hidden states and head is final as soon as its loss is. Four matrix products in all, nothing is recomputed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from opd_steps.nouns.dist import LazyCategorical, StepDist

ChunkLoss = Callable[[StepDist, int, int], Tensor]
"""(distribution of decisions i .. j, i, j) -> their summed loss."""

ELEMENTS = 1 << 23  # logits of one chunk


def chunked_sum(dist: StepDist, loss: ChunkLoss) -> Tensor:
    """Sum of `loss` over all chunks; its backward reaches the hidden states and the head of a LazyCategorical."""
    if not isinstance(dist, LazyCategorical):
        return loss(dist, 0, len(dist))
    width = dist.hidden_ND.shape[-1] if dist.weight_VD is None else dist.vocab or len(dist.weight_VD)
    size = max(16, ELEMENTS // width)
    if not torch.is_grad_enabled():
        return sum(
            loss(dist.chunk(i, min(i + size, len(dist))), i, min(i + size, len(dist))) for i in range(0, len(dist), size)
        )
    return _GradientInForward.apply(dist.hidden_ND, dist.weight_VD, dist.bias_V, dist, loss, size)


class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, bias_V, dist, loss, size):
        head = [p.detach().requires_grad_(p.requires_grad) for p in (weight_VD, bias_V) if p is not None]
        trained = [p for p in head if p.requires_grad]
        lazy = replace(dist, weight_VD=head[0] if head else None, bias_V=head[1] if len(head) > 1 else None)
        grad_ND, grads, total = torch.empty_like(hidden_ND), None, 0.0
        for i in range(0, len(hidden_ND), size):
            j = min(i + size, len(hidden_ND))
            with torch.enable_grad():
                chunk_ND = hidden_ND[i:j].detach().requires_grad_()
                value = loss(lazy.of(chunk_ND), i, j)
                grad_ND[i:j], *part = torch.autograd.grad(value, [chunk_ND, *trained], materialize_grads=True)
            grads = [g.float() for g in part] if grads is None else [a.add_(g) for a, g in zip(grads, part, strict=True)]
            total = total + value.detach()
        found = dict(zip(map(id, trained), grads or [], strict=True))
        ctx.grads = [found.get(id(p)) for p in head] + [None] * (2 - len(head))
        ctx.save_for_backward(grad_ND)
        ctx.dtype = hidden_ND.dtype if weight_VD is None else weight_VD.dtype
        return total

    @staticmethod
    def backward(ctx, grad):
        (grad_ND,) = ctx.saved_tensors
        scaled = [None if g is None else (g * grad).to(ctx.dtype) for g in ctx.grads]
        return grad_ND * grad, *scaled, None, None, None
