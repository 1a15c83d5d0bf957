"""One forward pass of each model over a batch, for all who look at it: survey, masks and terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from opd_steps.config.asks import Asks
from opd_steps.loop.passes import Tokens, passes
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.process import flops


@dataclass(frozen=True)
class Part:
    """The rows of one pass: the student's distributions, what is known beside them, and their first decision point in the batch.

    idle: a row that does not count, where other ranks have one part more.
    """

    student: StepDist
    evidence: Evidence
    at: int
    idle: bool = False


class Forward:
    """The parts of a batch, each of `size` rows or tokens, as often as they are asked for.

    The first pass keeps what teachers said, hidden states and a head ([N, D] for each), for the second. The student's pass is
    kept, with its graph, where the batch is one part; else it is run again, as the graphs of all parts would be the memory that
    micro-batches are there to save.
    """

    def __init__(
        self,
        policy: Policy,
        teachers: Mapping[str, Teacher],
        asks: Mapping[str, Asks],
        batch: Trajectory,
        columns: Mapping[str, Tensor],
        size: int | Tokens,
    ):
        self.policy, self.teachers, self.asks = policy, teachers, asks
        order, self.slices = passes(batch, size)
        self.batch, self.columns = batch, columns
        self.point_N = None  # where the decision points are in the batch as given; None: there
        if order is not None:
            point_N = torch.arange(len(batch.action_N)).split(batch.length_B.tolist())
            self.batch, self.point_N = batch.rows(order), torch.cat([point_N[row] for row in order])
            self.columns = {name: column[order] for name, column in columns.items()}
        self.evidence: list[Evidence] = []
        self.whole: Part | None = None

    def first(self) -> Iterator[Part]:
        """A pass before that of the loss."""
        alone = len(self.slices) == 1
        for index in self.slices:
            with torch.set_grad_enabled(alone):
                part = self._part(index)
            self.evidence.append(part.evidence)
            self.whole = part if alone else None
            yield part

    def parts(self) -> Iterator[Part]:
        """The pass of the loss, with gradient."""
        for k, index in enumerate(self.slices):
            if self.whole:
                part, self.whole = self.whole, None  # its graph is used up
                yield part
            else:
                yield self._part(index, self.evidence[k] if self.evidence else None)

    def points(self, part: Part) -> Tensor:
        """Numbers of a part's decision points in the batch as given."""
        at = slice(part.at, part.at + len(part.student))
        return torch.arange(at.start, at.stop) if self.point_N is None else self.point_N[at]

    def as_given(self, value_N: Tensor) -> Tensor:
        """A column of all decision points that stands in the order of the parts, in that of the batch."""
        return value_N if self.point_N is None else torch.empty_like(value_N).index_copy(0, self.point_N, value_N)

    def _part(self, index: slice, evidence: Evidence | None = None) -> Part:
        """`evidence`: where it is known already."""
        idle = index.start == index.stop
        picks = slice(-1, None) if idle else index  # where rows are sorted, the last one is the shortest
        rows = self.batch.rows(picks)
        evidence = evidence or self._evidence(rows, picks)
        at = int(self.batch.length_B[: index.start].sum())
        with flops.of_learner(counts=torch.is_grad_enabled() and not idle):  # a survey's rows are read again, with gradient
            student = self.policy.dist(rows, "student", self.asks["student"])
        return Part(student, evidence, at, idle)

    @torch.no_grad()
    def _evidence(self, rows: Trajectory, picks: slice) -> Evidence:
        device = self.policy.device
        columns = {name: column[picks][rows.owner_N].to(device) for name, column in self.columns.items()}
        return Evidence(
            action_N=rows.action_N.to(device),
            sampler_logp_N=None if rows.logp is None else rows.logp_N.to(device),
            outcome_N=columns.get("outcome"),
            step_N=rows.step_N.to(device),
            owner_N=rows.owner_N.to(device),
            others={name: other.dist(rows, name, self.asks[name]).to(device) for name, other in self.teachers.items()},
            columns=columns,
        )
