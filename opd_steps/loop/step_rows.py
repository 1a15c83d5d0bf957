"""The rows of a step: of every source that a method's terms look at, made for one learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from opd_steps.config import plugs
from opd_steps.config.needs import label, terms
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import sample_seeds


@dataclass
class StepRows:
    """name      of the learner, "" for the student
    policies  models of teachers that a source may let sample, by name
    texts     rows of a text column of the data (nouns.draw)
    rates     pass rate by prompt, where the selection asks for it
    """

    learner: Policy
    policies: Mapping[str, Policy]
    pool: Any
    select: Any
    seed: int
    texts: Callable[..., Trajectory]
    rates: dict[int, float] | None = None
    name: str = ""

    def begin(self, step: int, options: dict, method: dict, version: int) -> bool:
        """Have the learner's server sample the rows of a step from now on; False: they are not its own alone (prefixes.student)."""
        if [rows["name"] for _, rows in _wanted(method)] != ["student"]:
            return False
        prompts, seeds = sample_seeds(self._picks(step, options), options["sampling"]["n"], self.seed, "rollout", step)
        self.learner.begin(self.pool.contexts(prompts), seeds, version)
        return True

    def _picks(self, step: int, options: dict) -> list[int]:
        return self.select.pick(len(self.pool), self.seed, step, options["prompts"], self.rates)

    def batch(
        self, step: int, options: dict, method: dict, version: int | None = None, made: Mapping[str, Batch] | None = None
    ) -> Batch:
        """The rows of a step; extra["source"] says whose they are, where there are several: "" the method's own, first.

        `options`, `method`: as they stand now, for a controller may change them; `made`: what earlier learners got.
        """
        wanted, picks = _wanted(method), self._picks(step, options)
        chance = self.select.CHANCE
        drawn = (
            {"rate": options["prompts"] / len(self.pool), "expected": options["prompts"] * options["sampling"]["n"]}
            if chance
            else {}
        )
        if not picks:
            return replace(Batch.empty(), **drawn)
        draw = Draw(
            step,
            step - 1 if version is None else version,
            picks,
            options["sampling"]["n"],
            self.seed,
            self.learner,
            self.policies,
            self.pool,
            self.texts,
            self.name,
            made,
        )
        parts = [plugs.load("prefixes", source).rows(draw) for _, source in wanted]
        if [name for name, _ in wanted] == [""]:
            return replace(parts[0], **drawn)
        labels = [name for (name, _), part in zip(wanted, parts, strict=True) for _ in range(len(part.rows))]
        rows = Trajectory.concat([part.rows for part in parts])
        return Batch(rows.with_columns(extra={**rows.extra, "source": labels}), metrics=parts[0].metrics)


def _wanted(method: dict) -> list[tuple[str, dict]]:
    """Label and source of all rows that the method's terms look at, its own first."""
    others = {label(row["rows"]): row["rows"] for row in terms(method)}
    own = [("", method["prefix"])] if "" in others else []
    return own + sorted((name, rows) for name, rows in others.items() if name)
