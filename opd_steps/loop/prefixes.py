"""Whose tokens the states of a step come from: the student's, the teacher's, a data set's, or a mixture of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from opd_steps.config.needs import terms
from opd_steps.loop.batches import fixed_rows, rollout_metrics, sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng


@dataclass
class Prefixes:
    """Rows of every source that a method's terms look at.

    options   the node's options as they stand now (a controller may change them)
    solutions the data set's own texts, where a source asks for them
    rates     pass rate by prompt, where the selection asks for it
    """

    student: Any
    teacher: Any
    pool: Pool
    select: Any
    seed: int
    solutions: Trajectory | None = None
    rates: dict[int, float] | None = None

    def batch(self, step: int, options: dict, version: int | None = None) -> Batch:
        """The rows of a step; extra["source"] says whose they are, where there are several."""
        method = options["method"]
        wanted = sorted({row["rows"] for row in terms(method)}, key=["prefix", "student", "teacher", "dataset"].index)
        picks = self.select.pick(len(self.pool), self.seed, step, options["prompts"], self.rates)
        parts = [self._rows(self._source(name, method, step), step, picks, options, version) for name in wanted]
        if wanted == ["prefix"]:
            return parts[0]
        labels = [name for name, part in zip(wanted, parts, strict=True) for _ in range(len(part.rows))]
        rows = Trajectory.concat([part.rows for part in parts])
        return Batch(rows.with_columns(extra={**rows.extra, "source": labels}), metrics=parts[0].metrics)

    def _source(self, name: str, method: dict, step: int) -> str:
        source = method["prefix"]["source"] if name == "prefix" else name
        if source != "mixture":
            return source
        return "student" if rng(self.seed, "mixture", step).random() < method["prefix"]["student_share"] else "dataset"

    def _rows(self, source: str, step: int, picks: list[int], options: dict, version: int | None) -> Batch:
        n = options["sampling"]["n"]
        if source == "dataset":
            rows = fixed_rows(self.solutions, self.seed, step, options["prompts"] * n).rows
            rows = self._unsampled(rows, step - 1 if version is None else version)
            return Batch(rows, metrics=rollout_metrics(rows.with_columns(reward_B=None)))
        sampler = {"student": self.student, "teacher": self.teacher}.get(source)
        if source == "token_mix":
            sampler = self.student.mixed_with(self.teacher, options["method"]["prefix"]["teacher_share"])
        return sampled_rows(sampler, self.pool, picks, n, step, self.seed, "rollout", version=version)

    def _unsampled(self, rows: Trajectory, version: int) -> Trajectory:
        """Columns that sampled rows have: log-probs and rewards nan, for nobody sampled or judged these."""
        nan = torch.full((len(rows),), torch.nan)
        return rows.with_columns(
            logp=[torch.full((len(a),), torch.nan) for a in rows.actions],
            reward_B=nan,
            version_B=torch.full((len(rows),), version),
            ended_B=torch.ones(len(rows), dtype=torch.bool),
        )
