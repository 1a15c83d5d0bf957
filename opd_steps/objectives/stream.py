"""A stream: one term of the objective, built from its row of plugs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from opd_steps.config import plugs
from opd_steps.config.needs import GROUPS, reference_need, teacher_need, teacher_topk
from opd_steps.nouns.dist import Recorded, StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Moment:
    """Where training stands: optimizer step (from 1), the node's seed, the generation budget in decisions."""

    step: int = 1
    seed: int = 0
    window: int = 0


@dataclass(frozen=True)
class Stream:
    """coef * weight_N * estimator(signal on support, target, baseline, transforms).

    Plugs that must see whole rows or the whole batch (a running count, a share of the batch's tokens, a group's mean)
    measure first: `survey(q, evidence) -> {name: [n]}` chunk by chunk without gradient, then
    `over_batch(rows, found, moment) -> ([N], figures)`: a weight's factor, or what a transform adds to the advantage.

    against, rows   whose opinion it is, and on which rows (graph.kinds.Term)
    teacher_need    what must be known of the teacher: none, sampled, topk or full
    reference_need  the same of the reference, where the target uses it
    topk            how many of the teacher's likeliest tokens, where the support takes them from the teacher
    """

    support: Any
    signal: Any
    estimator: Any
    baseline: Any
    target: Any = None
    transform: tuple[Any, ...] = ()
    weight: tuple[Any, ...] = ()
    coef: float = 1.0
    against: str = "teacher"
    rows: str = "prefix"
    teacher_need: str = "full"
    reference_need: str = "none"
    topk: int = 0

    def view(self, evidence: Evidence) -> Evidence:
        """Evidence in which `teacher` is whom this stream is against."""
        if self.against == "teacher":
            return evidence
        other = evidence.reference if self.against == "reference" else Recorded(evidence.sampler_logp_N)
        return replace(evidence, teacher=other)

    def loss(self, q: StepDist, evidence: Evidence) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to be minimised and detached figures, each [N]. Gradients flow through `q` alone, never through weights."""
        aimed = self._aimed(q, evidence)
        local = tuple(t for t in self.transform if not t.WIDE)
        extra = {"transforms": local} if local else {}
        loss_N, stats = self.estimator.loss(q, aimed, self.support, self.signal, self.baseline, **extra)
        for weight in self.weight:
            if not weight.WIDE:
                loss_N = loss_N * weight.weight_N(q, evidence).detach()
        return self.coef * loss_N, stats

    def _aimed(self, q: StepDist, evidence: Evidence) -> Evidence:
        """Evidence in which `teacher` is the target."""
        return evidence if self.target is None else replace(evidence, teacher=self.target.of(q, evidence))

    @property
    def wide(self) -> tuple[Any, ...]:
        """The plugs that look at the whole batch."""
        return tuple(p for p in (*self.weight, *self.transform) if p.WIDE)

    @torch.no_grad()
    def survey(self, q: StepDist, evidence: Evidence) -> dict[tuple[int, str], Tensor]:
        """What the wide plugs measure at these decision points, by (plug, name), each [n]."""
        found, aimed = {}, self._aimed(q, evidence)  # a transform acts on the advantage towards the target
        for i, plug in enumerate(self.wide):
            if plug.SURVEY:
                seen = evidence if any(plug is w for w in self.weight) else aimed
                found |= {(i, name): value_N for name, value_N in plug.survey(q, seen).items()}
        return found

    def over_batch(
        self, rows: Trajectory, found: dict[tuple[int, str], Tensor], moment: Moment
    ) -> tuple[Tensor, Tensor | None, dict[str, float]]:
        """(weight_N, shift_N or None, figures) of the wide plugs over all decision points of `rows`."""
        weight_N, shift_N, figures = torch.ones(int(rows.length_B.sum())), None, {}
        for i, plug in enumerate(self.wide):
            value_N, more = plug.over_batch(rows, {name: v for (j, name), v in found.items() if j == i}, moment)
            figures |= more
            if any(plug is w for w in self.weight):
                weight_N = weight_N * value_N
            else:
                shift_N = value_N if shift_N is None else shift_N + value_N
        return weight_N, shift_N, figures


VANILLA = {
    "target": {"name": "teacher"},
    "support": {"name": "sampled"},
    "signal": {"name": "log_ratio"},
    "estimator": {"name": "pg"},
    "baseline": {"name": "none"},
    "transform": [],
    "weight": [],
    "coef": 1.0,
    "against": "teacher",
    "rows": "prefix",
}
"""The row that a stage writes over when its objective is not the user's to choose; equals graph.kinds.Term (tested)."""


def build(options: dict) -> Stream:
    """The stream of checked options (graph.kinds.Term)."""
    load = lambda slot, item: plugs.load(GROUPS[slot], item)
    return Stream(
        **{slot: load(slot, options[slot]) for slot in ("target", "support", "signal", "estimator", "baseline")},
        transform=tuple(load("transform", item) for item in options["transform"]),
        weight=tuple(load("weight", item) for item in options["weight"]),
        coef=options["coef"],
        against=options["against"],
        rows=options["rows"],
        teacher_need=teacher_need(options),
        reference_need=reference_need(options),
        topk=teacher_topk(options),
    )
