"""The objective of a step: terms over a student and its teachers, aggregated with constants of the whole step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from opd_steps.config.asks import NOTHING, Asks, union
from opd_steps.config.needs import terms
from opd_steps.loop.chunked import chunked_sum
from opd_steps.loop.forward import Forward, Part
from opd_steps.loop.passes import Tokens
from opd_steps.loop.terms import survey, terms_of
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.chunk import Figures, chunk_loss
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
        micro_batch: int | Tokens = 64,
        moment: Moment | None = None,
        after_rows: Callable[[], None] | None = None,
        eye: Eye | None = None,
    ) -> dict[str, float]:
        """Accumulate the gradient of the whole batch, pass by pass, each of `micro_batch` rows or tokens, and return mean statistics.

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
        each = [term.at(forward.point_N) for term in each]
        figure = Figures(len(batch.action_N))
        for part in forward.parts():
            if part.idle:
                _idle(part).backward()
                continue
            here = [term.cut(part.at, part.at + len(part.student), policy.device) for term in each]
            point_N = forward.points(part)

            def loss_of(q: StepDist, i: int, j: int, part=part, here=here, point_N=point_N) -> Tensor:
                see = partial(eye.see, point_N[i:j]) if eye and eye.looks(point_N[i:j]) else None
                return chunk_loss(self.streams, [term.cut(i, j) for term in here], q, part.evidence.chunk(i, j), figure, see)

            loss = chunked_sum(part.student, loss_of)
            loss.backward()
            figure.sums["loss"] += float(loss.detach())
            if after_rows:
                after_rows()
        return ranks.combined(figure.sums, sum) | ranks.combined(figure.worst, max) | figures


def _idle(part: Part) -> Tensor:
    """0, with a gradient of 0 on all that a loss reaches."""
    if isinstance(part.student, HiddenStates):
        return 0 * sum(h_ND.sum() for h_ND in part.student.layers.values())
    return chunked_sum(part.student, lambda q, i, j: 0 * q.logp(part.evidence.action_N[i:j]).sum())
