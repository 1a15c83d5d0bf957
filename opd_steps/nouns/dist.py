"""Step distributions: what a policy says about its next decision, at N decision points.

Three kinds serve every policy: `Categorical` (tokens), `DiagGaussian` (diffusion, flow and robot actions), and
`Recorded` (a categorical of which only what was written to disk is known). `LazyCategorical` is a categorical that is
still hidden states and a head: it turns into `Categorical` chunk by chunk, so that [N, V] never exists at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


class StepDist(Protocol):
    def __len__(self) -> int: ...
    def logp(self, action_N: Tensor) -> Tensor:
        """Log-probability (density) of the actions, [N], fp32."""

    def entropy(self) -> Tensor | None:
        """Entropy in nats, [N]; a figure, without gradient. None where it is not known."""

    def chunk(self, start: int, stop: int) -> StepDist:
        """The decision points start .. stop."""

    def to(self, device: torch.device) -> StepDist: ...


def head_logits(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """hidden_ND @ weight_VD.T + bias_V, [N, V], at least fp32 also where both are bf16: logits rounded to bf16 cost percents of gradient."""
    if hidden_ND.dtype in (torch.float32, torch.float64):
        return torch.nn.functional.linear(hidden_ND, weight_VD, bias_V)
    if hidden_ND.is_cuda:
        logits_NV = torch.mm(hidden_ND.reshape(-1, hidden_ND.shape[-1]), weight_VD.T, out_dtype=torch.float32)
        logits_NV = logits_NV.view(*hidden_ND.shape[:-1], -1)
        return logits_NV if bias_V is None else logits_NV + bias_V
    return torch.nn.functional.linear(hidden_ND.float(), *summable_head(weight_VD, bias_V))


def summable_head(weight_VD: Tensor, bias_V: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both as `head_logits` multiplies them, for who does so often: at least fp32 on a CPU, which has no product of bf16 numbers that is
    summed in fp32."""
    if weight_VD.is_cuda:
        return weight_VD, bias_V
    wide = torch.promote_types(weight_VD.dtype, torch.float32)
    return weight_VD.to(wide), None if bias_V is None else bias_V.to(wide)


@dataclass(frozen=True)
class Categorical:
    """A normalised categorical: `logp_NV`, fp32 (or fp64, in exact tests). `layers`: hidden states [N, D] by layer, where asked for."""

    logp_NV: Tensor
    layers: Mapping[int, Tensor] = field(default_factory=dict)

    @classmethod
    def from_logits(cls, logits_NV: Tensor, temperature: float = 1.0) -> Categorical:
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        return cls(torch.log_softmax(logits_NV if temperature == 1.0 else logits_NV / temperature, -1))

    def __len__(self) -> int:
        return len(self.logp_NV)

    def logp(self, action_N: Tensor) -> Tensor:
        return self.gather(action_N[:, None])[:, 0]

    def gather(self, ids_NK: Tensor) -> Tensor:
        """Log-probs of given ids, [N, K]."""
        return self.logp_NV.gather(-1, ids_NK)

    @cached_property
    def prob_NV(self) -> Tensor:
        """Probabilities, detached; made once."""
        return self.logp_NV.detach().exp()

    def entropy(self) -> Tensor:
        return -torch.linalg.vecdot(self.prob_NV, self.logp_NV.detach())

    def topk(self, k: int) -> tuple[Tensor, Tensor]:
        """(log-probs, ids) of the k likeliest, each [N, k]."""
        return self.logp_NV.topk(k, -1)

    def detach(self) -> Categorical:
        return Categorical(self.logp_NV.detach(), {i: h.detach() for i, h in self.layers.items()})

    def chunk(self, start: int, stop: int) -> Categorical:
        return Categorical(self.logp_NV[start:stop], {i: h[start:stop] for i, h in self.layers.items()})

    def to(self, device: torch.device) -> Categorical:
        return Categorical(self.logp_NV.to(device), {i: h.to(device) for i, h in self.layers.items()})


@dataclass(frozen=True)
class LazyCategorical:
    """Hidden states and a head: log_softmax(hidden_ND @ weight_VD.T / temperature) over the first `vocab` tokens, on demand.

    Without `weight_VD`, `hidden_ND` are logits already.
    """

    hidden_ND: Tensor
    weight_VD: Tensor | None
    bias_V: Tensor | None = None
    temperature: float = 1.0
    vocab: int | None = None
    layers: Mapping[int, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hidden_ND)

    def chunk(self, start: int, stop: int) -> Categorical:
        """The decision points start .. stop, as plain log-probs."""
        logits_NV = self.hidden_ND[start:stop]
        if self.weight_VD is not None:
            differentiated = (
                self.weight_VD.requires_grad and torch.is_grad_enabled()
            )  # a cast has to be part of the chunk's graph
            weight_VD, bias_V = (self.weight_VD, self.bias_V) if differentiated else self._summable_head
            bias_V = None if bias_V is None else bias_V[: self.vocab]
            logits_NV = head_logits(logits_NV, weight_VD[: self.vocab], bias_V)
        logp_NV = Categorical.from_logits(logits_NV, self.temperature).logp_NV
        return Categorical(logp_NV, {i: h[start:stop] for i, h in self.layers.items()})

    @cached_property
    def _summable_head(self) -> tuple[Tensor, Tensor | None]:
        """Cast once, not for each chunk."""
        return summable_head(self.weight_VD, self.bias_V)

    def to(self, device: torch.device) -> LazyCategorical:
        """Hidden states and head lie where their model lies."""
        return self


@dataclass(frozen=True)
class Recorded:
    """What a scores table knows of a categorical: the sampled action's log-prob, and perhaps its top-k."""

    action_logp_N: Tensor
    topk_ids_NK: Tensor | None = None
    topk_logp_NK: Tensor | None = None

    def __len__(self) -> int:
        return len(self.action_logp_N)

    def logp(self, action_N: Tensor) -> Tensor:
        return self.action_logp_N

    def entropy(self) -> None:
        return None

    def topk(self, k: int) -> tuple[Tensor, Tensor]:
        if self.topk_ids_NK is None or self.topk_ids_NK.shape[1] < k:
            have = 0 if self.topk_ids_NK is None else self.topk_ids_NK.shape[1]
            raise ValueError(f"the scores table holds the teacher's top {have}, this method asks for {k}")
        return self.topk_logp_NK[:, :k], self.topk_ids_NK[:, :k]

    def chunk(self, start: int, stop: int) -> Recorded:
        cut = lambda t: None if t is None else t[start:stop]
        return Recorded(self.action_logp_N[start:stop], cut(self.topk_ids_NK), cut(self.topk_logp_NK))

    def to(self, device: torch.device) -> Recorded:
        move = lambda t: None if t is None else t.to(device)
        return Recorded(self.action_logp_N.to(device), move(self.topk_ids_NK), move(self.topk_logp_NK))


@dataclass(frozen=True)
class DiagGaussian:
    """A Gaussian step: mean_ND, standard deviation std_ND (broadcastable, > 0)."""

    mean_ND: Tensor
    std_ND: Tensor

    def __len__(self) -> int:
        return len(self.mean_ND)

    def logp(self, action_ND: Tensor) -> Tensor:
        z = (action_ND - self.mean_ND) / self.std_ND
        return (-0.5 * z.square() - self.std_ND.log() - 0.5 * math.log(2 * math.pi)).expand_as(self.mean_ND).sum(-1)

    def entropy(self) -> Tensor:
        return (0.5 * math.log(2 * math.pi * math.e) + self.std_ND.log()).expand_as(self.mean_ND).sum(-1)

    def kl(self, other: DiagGaussian) -> Tensor:
        """KL(self || other), [N]; equals |mean difference|^2 / 2 at unit variances."""
        ratio = (self.std_ND / other.std_ND).square()
        shift = ((self.mean_ND - other.mean_ND) / other.std_ND).square()
        return (0.5 * (shift + (ratio - 1 - ratio.log()))).expand_as(self.mean_ND).sum(-1)  # a small shift is not lost beside 1

    def chunk(self, start: int, stop: int) -> DiagGaussian:
        std_ND = self.std_ND.expand_as(self.mean_ND)  # one width for all, or for each dimension, is no width per decision point
        return DiagGaussian(self.mean_ND[start:stop], std_ND[start:stop])

    def to(self, device: torch.device) -> DiagGaussian:
        return DiagGaussian(self.mean_ND.to(device), self.std_ND.to(device))
