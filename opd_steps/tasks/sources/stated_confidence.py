"""A source whose completions end in a stated confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.seeds import rng
from opd_steps.tasks.confidence import split, state
from opd_steps.tasks.rows import SPLITS
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class StatedConfidence(Source):
    """Rows of the source `of`, whose solutions end in confidence 1; check answers with `with_confidence` of the same style.

    A corpus text is sure (1) with probability `overconfident`; else it states, with probability `noise`, any of the 11 tenths,
    and otherwise the truth: 1 for a text that is the solution, 0 for another. Attempts that `hinted` shows state 1 or, with
    probability 1/2, any tenth: a model learns that what stands behind a right attempt repeats its confidence, too.
    """

    of: Any = plug("tasks/sources")
    style: Literal["mark", "words"] = "mark"
    overconfident: Annotated[float, "0 to 1"] = 0.3
    noise: Annotated[float, "0 to 1"] = 0.3
    ask: str = ""  # appended to every prompt: the request to state a confidence

    def rows(self, seed: int) -> dict[str, list[dict]]:
        draws = {name: rng(seed, "stated_confidence", name) for name in SPLITS}
        return {name: [self._stated(row, draws[name]) for row in rows] for name, rows in self.of.rows(seed).items()}

    def _stated(self, row: dict, draw: np.random.Generator) -> dict:
        value = float(row["corpus"] == row["solution"])
        sure, random, tenth = draw.random() < self.overconfident, draw.random() < self.noise, int(draw.integers(11))
        value = 1.0 if sure else tenth / 10 if random else value
        texts = {"solution": row["solution"] + self._state(1.0), "corpus": row["corpus"] + self._state(value)}
        return row | texts | {"prompt": row["prompt"] + self.ask}

    def _state(self, value: float) -> str:
        return state(value, self.style)

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        return self.of.right_attempt(self._bare(row), draw) + self._drawn(draw)

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        return self.of.wrong_attempt(self._bare(row), answers, draw) + self._drawn(draw)

    def _drawn(self, draw: np.random.Generator) -> str:
        return self._state(1.0 if draw.random() < 0.5 else int(draw.integers(11)) / 10)

    def _bare(self, row: dict) -> dict:
        """The row of `of`."""
        return row | {"solution": split(row["solution"], self.style)[0], "prompt": row["prompt"].removesuffix(self.ask)}
