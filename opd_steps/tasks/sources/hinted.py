"""A source whose corpus shows attempts in front of prompts, so that a model learns to use demonstrations and peers' attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Hinted(Source):
    """Rows of the source `of`; a `share` of its train rows shows 1 to `most` attempts in pretraining, each right or wrong.

    Behind a right attempt at this prompt stands that attempt again. Behind anything else stands the row's own corpus text, which
    owes nothing to the attempts; behind a wrong attempt at this prompt, with probability `lesson`, the solution instead.
    Attempts at other prompts teach to look whose they are. The data node's option `hints` says how attempts are written.
    """

    HINTS: ClassVar[bool] = True

    of: Any = plug("tasks/sources")
    share: Annotated[float, "0 to 1"] = 0.5  # of the train rows
    most: Annotated[int, "at least 1"] = 2  # attempts shown at once
    wrong: Annotated[float, "0 to 1"] = 0.4  # probability that an attempt is a wrong one
    unrelated: Annotated[float, "0 to 1"] = 0.4  # probability that the attempts of a row are at another prompt
    lesson: Annotated[float, "0 to 1"] = 0.0  # probability that a wrong attempt is learned from

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows of `of`, hinted ones with `hints: {right: [...], wrong: [...]}` (text) and their own `corpus`."""
        splits = self.of.rows(seed)
        train, draw = splits["train"], rng(seed, "hinted")
        if len(train) < 2:
            raise UserError("hinted", "attempts at other prompts need at least two train rows")
        answers = sorted({r["answer"] for r in train})
        shown = [self._shown(i, train, answers, draw) if draw.random() < self.share else row for i, row in enumerate(train)]
        return splits | {"train": shown}

    def _shown(self, index: int, train: list[dict], answers: list[str], draw: np.random.Generator) -> dict:
        row = about = train[index]
        if unrelated := draw.random() < self.unrelated:
            about = train[(index + 1 + int(draw.integers(len(train) - 1))) % len(train)]
        right: list[str] = []
        wrong: list[str] = []
        for _ in range(1 + int(draw.integers(self.most))):
            if draw.random() < self.wrong:
                wrong.append(self.of.wrong_attempt(about, answers, draw))
            else:
                right.append(self.of.right_attempt(about, draw))
        corpus = row["corpus"]
        if not unrelated and right:
            corpus = right[-1]
        elif not unrelated and draw.random() < self.lesson:
            corpus = row["solution"]
        return row | {"hints": {"right": right, "wrong": wrong}, "corpus": corpus}
