"""A source whose answers are written from their end: a second style of one skill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Backward(Source):
    """Rows of the source `of`, solution and corpus written backwards, last character first. The verifier `either_way` reads both."""

    of: Any = plug("tasks/sources", "walk")

    def rows(self, seed: int) -> dict[str, list[dict]]:
        turned = lambda row: row | {key: row[key][::-1] for key in ("solution", "corpus")}
        return {name: [turned(row) for row in rows] for name, rows in self.of.rows(seed).items()}

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        return self.of.right_attempt(row | {"solution": row["solution"][::-1]}, draw)[::-1]

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        return self.of.wrong_attempt(row | {"solution": row["solution"][::-1]}, answers, draw)[::-1]
