"""The part of the vocabulary that a signal looks at, at each decision point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical, Recorded

Norm = Literal["raw", "renormalise", "tail"]
Term = Callable[[Tensor, Tensor], Tensor]  # (logq, logp) -> a divergence's terms, all of one shape
FLOOR = 1e-8  # least mass of a tail bucket
TILE = 1 << 17  # entries


@dataclass(frozen=True)
class Selected:
    """Student and teacher on K entries per decision point.

    logq_NK    student log-probs, with gradient
    logp_NK    teacher log-probs, detached; None without a teacher
    valid_NK   which entries count; the others hold 0 and have no gradient. None: the whole vocabulary, all of it counts
    """

    logq_NK: Tensor
    logp_NK: Tensor | None
    valid_NK: Tensor | None

    @cached_property
    def weight_NK(self) -> Tensor:
        """The student's probabilities, renormalised over the valid entries and detached: the weights of expectations under it."""
        fixed_NK = self.logq_NK.detach()
        if self.valid_NK is None:
            return fixed_NK.exp()
        return (fixed_NK - _log_mass(fixed_NK, self.valid_NK)).exp().masked_fill(~self.valid_NK, 0.0)

    def total(self, term: Term) -> Tensor:
        """Sum of term(logq_NK, logp_NK) over the valid entries, [N], differentiated by logq_NK."""
        if self.valid_NK is None and not self.logq_NK.is_cuda and self.logq_NK.numel() > 2 * TILE:
            return _TiledSum.apply(self.logq_NK, self.logp_NK, term)
        return self.sum(term(self.logq_NK, self.logp_NK))

    def sum(self, value_NK: Tensor) -> Tensor:
        """Sum over the valid entries, [N]; 0 where there is none."""
        return (value_NK if self.valid_NK is None else value_NK.masked_fill(~self.valid_NK, 0.0)).sum(-1)


class _TiledSum(torch.autograd.Function):
    """The same sum over a whole vocabulary, in tiles: a term's intermediate tensors fit a CPU's cache; only its slope is kept."""

    @staticmethod
    def forward(ctx, logq_NV: Tensor, logp_NV: Tensor, term: Term) -> Tensor:
        width = max(1, TILE // len(logq_NV))
        total_N, slope_NV = torch.zeros_like(logq_NV[:, 0]), torch.empty_like(logq_NV) if ctx.needs_input_grad[0] else None
        for q_NK, p_NK, slope_NK in zip(
            logq_NV.split(width, -1),
            logp_NV.split(width, -1),
            (logq_NV if slope_NV is None else slope_NV).split(width, -1),
            strict=True,
        ):
            with torch.set_grad_enabled(slope_NV is not None):
                q_NK = q_NK.detach().requires_grad_(slope_NV is not None)
                sum_N = term(q_NK, p_NK).sum(-1)
            total_N += sum_N.detach()
            if slope_NV is not None:
                slope_NK.copy_(torch.autograd.grad(sum_N, q_NK, torch.ones_like(sum_N))[0])
        ctx.slope_NV = slope_NV
        return total_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_N: Tensor):
        slope_NV, ctx.slope_NV = ctx.slope_NV, None
        return slope_NV.mul_(grad_N[:, None]), None, None


def restrict(logq_NK: Tensor, logp_NK: Tensor, valid_NK: Tensor, norm: Norm) -> Selected:
    """Student and teacher on a set of tokens.

    raw          log-probs as they are: the mass outside is ignored
    renormalise  the conditionals: minus logsumexp over the set, on both sides
    tail         one more entry, log(1 - mass of the set), on both sides; its mass is at least 1e-8
    """
    some_N1 = valid_NK.any(-1, keepdim=True)
    logq_NK, logp_NK = logq_NK.masked_fill(~valid_NK, 0.0), logp_NK.detach().masked_fill(~valid_NK, 0.0)
    massq_N1, massp_N1 = _log_mass(logq_NK, valid_NK), _log_mass(logp_NK, valid_NK)
    if norm == "renormalise":
        logq_NK = (logq_NK - massq_N1).masked_fill(~valid_NK, 0.0)
        logp_NK = (logp_NK - massp_N1).masked_fill(~valid_NK, 0.0)
    elif norm == "tail":
        logq_NK = torch.cat([logq_NK, _log1mexp(massq_N1)], -1)
        logp_NK = torch.cat([logp_NK, _log1mexp(massp_N1)], -1)
        valid_NK = torch.cat([valid_NK, some_N1], -1)
    return Selected(logq_NK, logp_NK, valid_NK)


def among(ids_NK: Tensor, others_NL: Tensor) -> Tensor:
    """True where a token id is one of the other ids at its decision point, [N, K]."""
    return (ids_NK[:, :, None] == others_NL[:, None, :]).any(-1)


def topk(dist: Categorical | Recorded, k: int) -> tuple[Tensor, Tensor]:
    """(log-probs, ids) of the k likeliest tokens, each [N, k], detached. Raises ValueError when there are not that many."""
    if isinstance(dist, Categorical):
        vocab = dist.logp_NV.shape[-1]
        if not 1 <= k <= vocab:
            raise ValueError(f"a support of k = {k} tokens was asked for, the vocabulary has {vocab}")
        dist = dist.detach()
    return dist.topk(k)


def _log_mass(logp_NK: Tensor, valid_NK: Tensor) -> Tensor:
    # a row without valid entries keeps its zeros: its result is masked later, and must be finite for that
    outside_NK = ~valid_NK & valid_NK.any(-1, keepdim=True)
    return logp_NK.masked_fill(outside_NK, -torch.inf).logsumexp(-1, keepdim=True)


def _log1mexp(x: Tensor) -> Tensor:
    return (-torch.expm1(x.clamp(max=-FLOOR))).log()
