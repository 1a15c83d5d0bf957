"""A loss over a lazy categorical, chunk by chunk: the gradient is computed in the forward pass, [N, V] never exists.

Possible because the loss is a weighted sum whose weights are known beforehand: each chunk's gradient is final as soon as its loss is.
Autograd goes from the loss to the log-probs alone, whatever the method; from there on the gradient is written out, with g = dL/dlog q:

    dL/dz = (g - q sum_v g_v) / temperature      dL/dhidden = dL/dz W      dL/dW = sum over chunks (dL/dz)^T hidden      (fp32)

Four matrix products in all, nothing is recomputed. A loss that looks at hidden states of further layers reaches these as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical, LazyCategorical, StepDist, head_logits
from opd_steps.process.chunks import decisions
from opd_steps.process.heap import kept_chunks

ChunkLoss = Callable[[StepDist, int, int], Tensor]
"""(distribution of decisions i .. j, i, j) -> their summed loss."""


@kept_chunks()
def chunked_sum(dist: StepDist, loss: ChunkLoss) -> Tensor:
    """Sum of `loss` over all chunks; its backward reaches the hidden states and the head of a LazyCategorical."""
    if not isinstance(dist, LazyCategorical):
        return loss(dist, 0, len(dist))
    width = dist.hidden_ND.shape[-1] if dist.weight_VD is None else dist.vocab or len(dist.weight_VD)
    size = decisions(width, dist.hidden_ND.is_cuda)
    bounds = [(i, min(i + size, len(dist))) for i in range(0, len(dist), size)]
    if not torch.is_grad_enabled():
        return sum(loss(dist.chunk(i, j), i, j) for i, j in bounds)
    layers = tuple(dist.layers.values())
    return _GradientInForward.apply(dist, loss, bounds, dist.hidden_ND, dist.weight_VD, dist.bias_V, *layers)


class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, dist, loss, bounds, *inputs):
        hidden_ND = inputs[0]
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        grads = [
            torch.zeros_like(x, dtype=wide) if want else None for x, want in zip(inputs, ctx.needs_input_grad[3:], strict=True)
        ]
        total = sum((_chunk(dist, loss, grads, i, j) for i, j in bounds), hidden_ND.new_zeros((), dtype=wide))
        ctx.grads = grads
        ctx.dtypes = [None if x is None else x.dtype for x in inputs]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grads, ctx.grads = ctx.grads, None  # whoever has the only reference may keep the memory
        scaled = [None if g is None else g.mul_(grad).to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True)]
        return None, None, None, *scaled


def _chunk(dist: LazyCategorical, loss: ChunkLoss, grads: list[Tensor | None], i: int, j: int) -> Tensor:
    """The loss of decisions i .. j; what they contribute to the gradients of hidden states, weight and bias is added to `grads`."""
    q = dist.chunk(i, j)
    layers = {k: h_ND.detach().requires_grad_() for k, h_ND in q.layers.items()}
    with torch.enable_grad():
        value = loss(Categorical(q.logp_NV.requires_grad_(), layers), i, j)
    if not value.requires_grad:  # nothing of the student in it
        return value
    grad_NV, *of_layers = torch.autograd.grad(value, (q.logp_NV, *layers.values()), allow_unused=bool(layers))
    for into, found in zip(grads[3:], of_layers, strict=True):
        if into is not None and found is not None:
            into[i:j] = found
    if grad_NV is None:  # it looks at hidden states alone
        return value.detach()
    grad_NV = grad_NV.contiguous()  # ours alone: its graph is used up (a sum's gradient is one number, seen often: copied)
    grad_NV.addcmul_(q.prob_NV, grad_NV.sum(-1, keepdim=True), value=-1)
    del q
    if dist.temperature != 1.0:
        grad_NV /= dist.temperature
    of_hidden, of_weight, of_bias = grads[:3]
    hidden_ND, weight_VD, vocab = dist.hidden_ND[i:j], dist.weight_VD, grad_NV.shape[1]
    if weight_VD is None:
        of_hidden[i:j, :vocab] = grad_NV
        return value.detach()
    if of_bias is not None:
        of_bias[:vocab] += grad_NV.sum(0)
    if of_hidden is not None:
        of_hidden[i:j] = grad_NV.to(weight_VD.dtype) @ weight_VD[:vocab]
    if of_weight is not None and (hidden_ND.dtype == of_weight.dtype or not hidden_ND.is_cuda):
        of_weight[:vocab].addmm_(grad_NV.T, hidden_ND.to(of_weight.dtype))
    elif of_weight is not None:
        of_weight[:vocab] += head_logits(grad_NV.T.to(hidden_ND.dtype), hidden_ND.T)
    return value.detach()
