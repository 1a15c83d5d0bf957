"""A stream: one term of the objective, built from its row of plugs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from opd_steps.config import plugs
from opd_steps.config.asks import Asks
from opd_steps.config.needs import GROUPS, asks, blind, label
from opd_steps.nouns.dist import Recorded, StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Moment:
    """Where training stands: optimizer step (from 1), the node's seed, the generation budget in decisions; `against`: of the term
    that asks; `rows`: by which means over the step's rows divide, 0: as many as a term is about."""

    step: int = 1
    seed: int = 0
    window: int = 0
    against: str = "teacher"
    rows: int = 0


@dataclass(frozen=True)
class Stream:
    """coef * weight_N * estimator(signal on support, target, baseline, transforms), where the masks `where` say so.

    Plugs that must see whole rows or the whole batch (a running count, a share of the batch's tokens, a group's mean)
    measure first: `survey(q, evidence) -> {name: [n]}` chunk by chunk without gradient, then
    `over_batch(rows, found, moment) -> ([N], figures)`: a weight's factor, or what a transform adds to the advantage.
    A `where` does the same and says which decision points the term is about: the others count for nothing, in its
    denominators either. All of these see every teacher (`evidence.others`).

    against, rows   whose opinion it is, and on which rows: "" the method's own, else a label (config.needs.label)
    asks            what it asks of whom (config.needs.asks)
    blind           whether it looks at no probability of the student's (config.needs.blind)
    """

    support: Any
    signal: Any
    estimator: Any
    baseline: Any
    target: Any = None
    transform: tuple[Any, ...] = ()
    weight: tuple[Any, ...] = ()
    coef: float = 1.0
    where: tuple[Any, ...] = ()
    against: str = "teacher"
    rows: str = ""
    asks: Mapping[str, Asks] = field(default_factory=dict)
    blind: bool = False

    def view(self, evidence: Evidence) -> Evidence:
        """Evidence in which `teacher` is whom this stream is against."""
        sampler = self.against == "sampler"
        return replace(evidence, teacher=Recorded(evidence.sampler_logp_N) if sampler else evidence.others.get(self.against))

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

    @torch.no_grad()
    def factor_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        """The product of the weights that `loss` multiplies with, [N]."""
        factor_N = torch.ones(len(evidence.action_N), device=evidence.action_N.device)
        for weight in self.weight:
            if not weight.WIDE:
                factor_N = factor_N * weight.weight_N(q, evidence)
        return self.coef * factor_N

    def _aimed(self, q: StepDist, evidence: Evidence) -> Evidence:
        """Evidence in which `teacher` is the target."""
        return evidence if self.target is None else replace(evidence, teacher=self.target.of(q, evidence))

    @property
    def wide(self) -> tuple[Any, ...]:
        """The plugs that look at the whole batch."""
        return (*self.where, *(p for p in (*self.weight, *self.transform) if p.WIDE))

    @property
    def surveys(self) -> bool:
        """Whether one of them measures something at each decision point first."""
        return any(plug.SURVEY for plug in self.wide)

    @torch.no_grad()
    def survey(self, q: StepDist, evidence: Evidence) -> dict[tuple[int, str], Tensor]:
        """What the wide plugs measure at these decision points, by (plug, name), each [n]."""
        found, aimed = {}, self._aimed(q, evidence)  # a transform acts on the advantage towards the target
        for i, plug in enumerate(self.wide):
            if plug.SURVEY:
                seen = aimed if any(plug is t for t in self.transform) else evidence
                found |= {(i, name): value_N for name, value_N in plug.survey(q, seen).items()}
        return found

    def over_batch(self, rows: Trajectory, found: dict[tuple[int, str], Tensor], moment: Moment) -> Wide:
        """What the wide plugs make of all decision points of `rows`."""
        out, moment = Wide(torch.ones(int(rows.length_B.sum()))), replace(moment, against=self.against)
        for i, plug in enumerate(self.wide):
            value_N, figures = plug.over_batch(rows, {name: v for (j, name), v in found.items() if j == i}, moment)
            out.figures |= figures
            if i < len(self.where):
                out.mask_N = value_N.bool() if out.mask_N is None else out.mask_N & value_N.bool()
            elif any(plug is w for w in self.weight):
                out.weight_N = out.weight_N * value_N
            else:
                out.shift_N = value_N if out.shift_N is None else out.shift_N + value_N
        return out


@dataclass
class Wide:
    """What a term's wide plugs make of the whole batch: factors, what is added to the advantage, which decisions count; figures."""

    weight_N: Tensor
    shift_N: Tensor | None = None
    mask_N: Tensor | None = None
    figures: dict[str, float] = field(default_factory=dict)


VANILLA = {
    "target": {"name": "teacher"},
    "support": {"name": "sampled"},
    "signal": {"name": "log_ratio"},
    "estimator": {"name": "pg"},
    "baseline": {"name": "none"},
    "transform": [],
    "weight": [],
    "where": [],
    "coef": 1.0,
    "against": "teacher",
    "rows": None,
}
"""The row that a stage writes over when its objective is not the user's to choose; equals graph.method.Term (tested)."""


def build(options: dict) -> Stream:
    """The stream of checked options (graph.method.Term)."""
    load = lambda slot, item: plugs.load(GROUPS[slot], item)
    return Stream(
        **{slot: load(slot, options[slot]) for slot in ("target", "support", "signal", "estimator", "baseline")},
        transform=tuple(load("transform", item) for item in options["transform"]),
        weight=tuple(load("weight", item) for item in options["weight"]),
        where=tuple(load("where", item) for item in options["where"]),
        coef=options["coef"],
        against=options["against"],
        rows=label(options["rows"]),
        asks=asks(options),
        blind=blind(options),
    )
