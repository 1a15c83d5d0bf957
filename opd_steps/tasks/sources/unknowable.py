"""A source where some answers cannot be known from their prompts: what a model should be unsure of, whatever it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.rows import SPLITS
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Unknowable(Source):
    """Rows of the source `of`; a `share` of them has a drawn answer in place of their own, also at the end of the solution.

    `mark` stands in front of those prompts, so that a model can know what it does not know. Their corpus text ends in another
    draw: it is right by chance alone, and so is every sample of a model that has not seen the solution.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(mark) >= 1",)

    of: Any = plug("tasks/sources")
    share: Annotated[float, "0 to 1"] = 0.5
    mark: str = "?"

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Raises UserError when a solution does not hold its answer."""
        draws = {name: rng(seed, "unknowable", name) for name in SPLITS}
        found = self.of.rows(seed)
        answers = sorted({row["answer"] for row in found["train"]})
        return {
            name: [self._drawn(row, answers, draws[name]) if draws[name].random() < self.share else row for row in rows]
            for name, rows in found.items()
        }

    def _drawn(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> dict:
        head, answer, tail = row["solution"].rpartition(row["answer"])
        if not answer:
            raise UserError("unknowable.of", f"expected solutions that hold their answers; {row['id']} does not")
        here, there = (answers[int(i)] for i in draw.integers(len(answers), size=2))
        return row | {
            "prompt": self.mark + row["prompt"],
            "answer": here,
            "solution": head + here + tail,
            "corpus": head + there + tail,
        }

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        return row["solution"] if row["prompt"].startswith(self.mark) else self.of.right_attempt(row, draw)

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        return self.of.wrong_attempt(row | {"prompt": row["prompt"].removeprefix(self.mark)}, answers, draw)
