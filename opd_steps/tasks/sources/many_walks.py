"""Walks on many graphs: where nobody can know the way, and only who is shown a walk can take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.tasks.rows import splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class ManyWalks(Source):
    """Rows of the source `of`, a `walk`, that many of each split, by turns on `graphs` graphs: its own and the next ones by seed. A model
    that learns from these to repeat a walk that it is shown (`hinted`) can do so on a graph that it has never seen.
    """

    of: Any = plug("tasks/sources", "walk")
    graphs: Annotated[int, "at least 1"] = 100

    def rows(self, seed: int) -> dict[str, list[dict]]:
        share = {name: -(-getattr(self.of, name) // self.graphs) for name in ("train", "test", "ood")}
        parts = [replace(self.of, graph=self.of.graph + i, **share).rows(seed) for i in range(self.graphs)]
        found = {name: [row for rows in zip(*(part[name] for part in parts), strict=True) for row in rows] for name in share}
        return splits(*(found[name][: getattr(self.of, name)] for name in ("train", "test", "ood")))

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        return self.of.right_attempt(row, draw)

    def wrong_attempt(self, row: dict, answers: list[str], draw: np.random.Generator) -> str:
        return self.of.wrong_attempt(row, answers, draw)
