"""The loss of a chunk of decision points, which every trainer calls: from what the student says there, what is known beside it, and
what the whole batch makes of each decision point. No constant of the batch is computed here, so it is the same however a batch is cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Stream


@dataclass(frozen=True)
class Term:
    """Constants of a batch for one stream: weight, membership and added advantage of every decision point, each [N]; `tokens`: how many
    decision points of the whole batch the stream is about."""

    scale_N: Tensor
    member_N: Tensor
    shift_N: Tensor | None
    tokens: int

    def at(self, point_N: Tensor | None) -> Term:
        """Of the decision points in this order; None: as they are."""
        if point_N is None:
            return self
        return replace(self, **{name: t[point_N] for name, t in vars(self).items() if isinstance(t, Tensor)})

    def cut(self, start: int, stop: int, device: torch.device | None = None) -> Term:
        take = lambda t: None if t is None else t[start:stop].to(device or t.device)
        return Term(take(self.scale_N), take(self.member_N), take(self.shift_N), self.tokens)


def prefix(k: int) -> str:
    """In front of the figures of a method's term number k."""
    return f"add{k - 1}_" if k else ""


def chunk_loss(
    streams: Sequence[Stream],
    terms: Sequence[Term],
    q: StepDist,
    evidence: Evidence,
    figures: Figures,
    see: Callable[[dict[str, Tensor | None]], None] | None = None,
) -> Tensor | float:
    """sum over streams k of (scale_N * loss_N) over n decision points; what was measured there is added to `figures`.

    `terms`, `q` and `evidence` are about the same n decision points. Gradients flow through `q` alone. `see`: is
    given figures of single decisions, each [n], of stream after stream.
    """
    loss, raw_N = 0.0, evidence.sampler_logp_N  # nan where nobody sampled
    if raw_N is not None:
        evidence = replace(evidence, sampler_logp_N=raw_N.where(~raw_N.isnan(), 0.0))
    for k, (stream, term) in enumerate(zip(streams, terms, strict=True)):
        loss_N, found = stream.loss(q, replace(stream.view(evidence), shift_N=term.shift_N))
        loss = loss + (term.scale_N * loss_N).sum()
        figures.of_term(prefix(k), found, term)
        if see:
            see(shown(stream, q, evidence, found, term, prefix(k)))
    figures.of_policy(q, evidence.action_N, raw_N)
    return loss


@torch.no_grad()
def shown(
    stream: Stream, q: StepDist, seen: Evidence, found: dict[str, Tensor], term: Term, name: str
) -> dict[str, Tensor | None]:
    """Columns of a term for who looks at single decisions, [N] each; names begin with that of the term.

    The estimator's own figures; weight: what the decision counts in the loss, 1 where all count alike, 0 where it is masked; of the
    method's own term also student: its log-prob of the action, and both entropies, in nats.
    """
    evidence = stream.view(seen)
    weight_N = term.scale_N * term.tokens * stream.factor_N(q, evidence)
    columns = {f"{name}{key}": value_N for key, value_N in found.items()} | {f"{name}weight": weight_N}
    if name or isinstance(q, HiddenStates):
        return columns
    teacher_N = None if evidence.teacher is None else evidence.teacher.entropy()
    return columns | {"student": q.logp(seen.action_N), "entropy": q.entropy(), "teacher_entropy": teacher_N}


class Figures:
    """Means over a batch of `decisions` decision points, gathered chunk by chunk: `sums` are added up, of `worst` the largest counts."""

    def __init__(self, decisions: int):
        self.decisions = decisions
        self.sums: dict[str, float] = defaultdict(float)
        self.worst: dict[str, float] = defaultdict(float)

    def of_term(self, name: str, found: dict[str, Tensor], term: Term) -> None:
        """Means over the decision points that the term is about."""
        for key, value_N in found.items():
            self.sums[name + key] += float((value_N.detach() * term.member_N).sum()) / term.tokens

    @torch.no_grad()
    def of_policy(self, q: StepDist, action_N: Tensor, sampler_logp_N: Tensor | None) -> None:
        """Entropy, and how far the policy is from its sampler: engine mismatch where the rows are fresh, drift where they are stale."""
        if isinstance(q, HiddenStates):
            return
        if (entropy_N := q.entropy()) is not None:
            self.sums["entropy"] += float(entropy_N.sum()) / self.decisions
        if sampler_logp_N is None:
            return
        gap_N = (q.logp(action_N) - sampler_logp_N).where(~sampler_logp_N.isnan(), 0.0)
        self.sums["sampler_gap"] += float(gap_N.abs().sum()) / self.decisions
        self.sums["sampler_kl"] -= float(gap_N.sum()) / self.decisions
        self.worst["sampler_gap_max"] = max(self.worst["sampler_gap_max"], float(gap_N.abs().max()))
