"""Exact moments of an estimator's logit gradient: the expectation over the sampled action is a sum over the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from opd_steps.config.merge import merge
from opd_steps.graph.checks.method_rules import LIVE, check_stream
from opd_steps.graph.method import Term
from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import VANILLA, Stream, build
from opd_steps.seeds import rng

V, K, EACH = 32, 8, 16
SCALES = ((1.0, 1.0), (1.0, 3.0), (3.0, 1.0), (3.0, 3.0))  # standard deviations of the logits of student and teacher
CORRELATION = 0.8  # between their logits
STALE = 0.5  # standard deviation of what a stale sampler's logits differ by
ZERO = 1e-9  # relative: what is below is 0


def stream(**options) -> Stream:
    """A stream from the options that a user writes, refused by the same rules."""
    options = {**VANILLA, **merge(Term, options, "estimator table")}
    check_stream(options, "estimator table", {"teacher": LIVE, "reference": LIVE})
    return build(options)


def normal(*shape: int, name: str) -> Tensor:
    return torch.from_numpy(rng("estimator table", name).standard_normal(shape))


@dataclass(frozen=True)
class Pairs:
    """P student logits, teacher log-probs and sampler logits, each [P, V], fp64."""

    logits_PV: Tensor
    teacher_PV: Tensor
    sampler_PV: Tensor

    @classmethod
    def draw(cls, v: int = V, each: int = EACH) -> Pairs:
        """`each` pairs of every sharpness."""
        a, b, c = (normal(len(SCALES) * each, v, name=f"{n}{v}") for n in ("student", "teacher", "sampler"))
        scale = torch.tensor(SCALES, dtype=torch.float64).repeat_interleave(each, 0)
        logits_PV = scale[:, :1] * a
        teacher_PV = scale[:, 1:] * (CORRELATION * a + (1 - CORRELATION**2) ** 0.5 * b)
        return cls(logits_PV, teacher_PV.log_softmax(-1), logits_PV + STALE * c)

    def agreed(self) -> Pairs:
        """The same students, each its own teacher."""
        return Pairs(self.logits_PV, self.logits_PV.log_softmax(-1), self.sampler_PV)

    def near(self) -> Pairs:
        """The same students, their stale samplers as teachers: near agreement."""
        return Pairs(self.logits_PV, self.sampler_PV.log_softmax(-1), self.sampler_PV)

    @cached_property
    def q_PV(self) -> Tensor:
        return self.logits_PV.softmax(-1)

    @cached_property
    def rkl_PV(self) -> Tensor:
        """The gradient of KL(q||p) on the logits, in closed form: q (log q - log p - KL)."""
        gap_PV = self.logits_PV.log_softmax(-1) - self.teacher_PV
        return self.q_PV * (gap_PV - (self.q_PV * gap_PV).sum(-1, keepdim=True))

    @cached_property
    def fkl_PV(self) -> Tensor:
        """The gradient of KL(p||q) on the logits, in closed form: q - p."""
        return self.q_PV - self.teacher_PV.exp()


@dataclass(frozen=True)
class Moments:
    mean_PV: Tensor  # expected gradient
    variance_P: Tensor  # total variance, E|g|^2 - |E g|^2
    stats: dict[str, Tensor]  # the estimator's figures, expected, [P]

    @property
    def noise_P(self) -> Tensor:
        return self.variance_P.clamp(min=0).sqrt()


def moments(term: Stream, pairs: Pairs, stale: bool = False) -> Moments:
    """Moments of a production stream's gradient, over actions of the student or of a stale sampler."""
    count, vocab = pairs.logits_PV.shape
    each = lambda x_PV: x_PV.repeat_interleave(vocab, 0)  # decision point (pair, action)
    action_N = torch.arange(vocab).repeat(count)
    sampler_PV = (pairs.sampler_PV if stale else pairs.logits_PV).log_softmax(-1)
    teacher, reference = (Categorical(each(x_PV)) for x_PV in (pairs.teacher_PV, pairs.sampler_PV.log_softmax(-1)))
    evidence = Evidence(action_N, teacher, sampler_PV.reshape(-1), others={"reference": reference})
    logits_NV = each(pairs.logits_PV).requires_grad_()
    loss_N, stats = term.loss(Categorical.from_logits(logits_NV), evidence)
    (grad_NV,) = torch.autograd.grad(loss_N.sum(), logits_NV)
    weight_PA, grad_PAV = sampler_PV.exp(), grad_NV.reshape(count, vocab, vocab)
    mean_PV = torch.einsum("pa,pav->pv", weight_PA, grad_PAV)
    variance_P = (weight_PA * (grad_PAV - mean_PV[:, None]).square().sum(-1)).sum(-1)
    return Moments(mean_PV, variance_P, {n: (weight_PA * s.reshape(count, vocab)).sum(-1) for n, s in stats.items()})


def norm(x_PV: Tensor) -> Tensor:
    return x_PV.norm(dim=-1)


def relative_gap(mean_PV: Tensor, target_PV: Tensor) -> Tensor:
    """|mean - target| / |target|, [P]."""
    return norm(mean_PV - target_PV) / norm(target_PV)


def cosine(a_PV: Tensor, b_PV: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a_PV, b_PV, dim=-1)
