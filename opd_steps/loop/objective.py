"""The objective of a step: terms over a student and its teachers, aggregated with constants of the whole step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opd_steps.config.asks import NOTHING, Asks, union
from opd_steps.config.needs import terms
from opd_steps.loop.chunked import chunked_sum
from opd_steps.loop.forward import Forward, Part
from opd_steps.loop.terms import Term, prefix, shown, survey, terms_of
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment, Stream, build
from opd_steps.process import ranks

if TYPE_CHECKING:
    from opd_steps.loop.tokens import Eye


@dataclass
class Objective:
    """sum over streams of Agg_N( coef * weight_N * estimate_N ), each over the rows and decision points that it is about."""

    streams: tuple[Stream, ...]
    aggregate: str
    window: int = 0  # generation budget in decisions, for window_mean

    @classmethod
    def from_method(cls, method: dict, window: int) -> Objective:
        """From checked options of a Method (the method's own stream first, then those of `add`)."""
        return cls(tuple(build(row) for row in terms(method)), method["aggregate"], window)

    def asks(self) -> dict[str, Asks]:
        """What is asked of whom, by the names of teachers; of "student" beside what a loss needs."""
        return union([dict(stream.asks) for stream in self.streams])

    def backward(
        self,
        policy: Policy,
        batch: Trajectory,
        columns: dict[str, Tensor],
        teachers: Mapping[str, Teacher] | None = None,
        micro_batch: int = 64,
        moment: Moment | None = None,
        after_rows: Callable[[], None] | None = None,
        eye: Eye | None = None,
    ) -> dict[str, float]:
        """Accumulate the gradient of the whole batch, `micro_batch` rows at a time, and return mean statistics.

        `columns`: per-row tensors [B]; "outcome" is the outcome advantage. Teachers are never differentiated, and those that
        nothing asks are not run. Splitting the batch differently, also over ranks, changes no gradient: constants are those of
        the whole batch. `after_rows`: called after each backward pass, with the gradient as it stands. `eye`: looks
        at figures of single decisions.
        """
        if not len(batch):  # where rows come by chance
            return {}
        asks = self.asks()
        if not all(stream.blind for stream in self.streams):
            asks["student"] = asks.get("student", NOTHING) | Asks(full=True)
        asked = {name: asks.get(name, NOTHING) for name in ("student", *(teachers or {}))}
        forward = Forward(policy, {n: t for n, t in (teachers or {}).items() if asked[n]}, asked, batch, columns, micro_batch)
        found = survey(self.streams, forward) if any(s.surveys for s in self.streams) else None
        each, figures = terms_of(self.streams, self.aggregate, self.window, batch, found, moment or Moment(window=self.window))
        figure = Figures(len(batch.action_N))
        for part in forward.parts():
            if part.idle:
                _idle(part).backward()
                continue
            here = [term.cut(part.at, part.at + len(part.student), policy.device) for term in each]
            loss = chunked_sum(part.student, self._loss_of(part, here, figure, eye))
            loss.backward()
            figure.sums["loss"] += float(loss.detach())
            if after_rows:
                after_rows()
        return figure.combined() | figures

    def _loss_of(
        self, part: Part, here: list[Term], figure: Figures, eye: Eye | None
    ) -> Callable[[StepDist, int, int], Tensor]:
        def loss_of(q: StepDist, i: int, j: int) -> Tensor:
            seen, loss = part.evidence.chunk(i, j), 0.0
            raw_N = seen.sampler_logp_N  # nan where nobody sampled
            if raw_N is not None:
                asked_N = ~raw_N.isnan()
                seen = replace(seen, sampler_logp_N=raw_N.where(asked_N, 0.0))
            for k, (stream, term) in enumerate(zip(self.streams, here, strict=True)):
                cut = term.cut(i, j)
                loss_N, found = stream.loss(q, replace(stream.view(seen), shift_N=cut.shift_N))
                loss = loss + (cut.scale_N * loss_N).sum()
                figure.of_term(prefix(k), found, cut)
                if eye and eye.looks(part.at + i, part.at + j):
                    eye.see(part.at + i, shown(stream, q, seen, found, cut, prefix(k)))
            figure.of_policy(q, seen.action_N, raw_N)
            return loss

        return loss_of


def _idle(part: Part) -> Tensor:
    """0, with a gradient of 0 on all that a loss reaches."""
    if isinstance(part.student, HiddenStates):
        return 0 * sum(h_ND.sum() for h_ND in part.student.layers.values())
    return chunked_sum(part.student, lambda q, i, j: 0 * q.logp(part.evidence.action_N[i:j]).sum())


class Figures:
    """Means over a batch of `decisions` decision points, gathered chunk by chunk."""

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

    def combined(self) -> dict[str, float]:
        """Of all ranks."""
        return ranks.combined(self.sums, sum) | ranks.combined(self.worst, max)
