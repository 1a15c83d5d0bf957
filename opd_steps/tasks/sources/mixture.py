"""Several data sets in one, each with its share of the train rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.seeds import epoch_order, rng
from opd_steps.tasks.rows import asked, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Mixture(Source):
    """Rows of the sources `of`, each with the name of its source as the column `column`. Of N train rows a source gives
    N w / sum of w, by largest remainder, drawn by the data node's seed; they stand in a drawn order.

    N is `train`; 0: as many as there are without any row twice. A source that has fewer than it is to give is gone through again and
    again, each time in another order, at most `passes` times: beyond that the data are refused. Weight 0: measured, not trained on.
    Test and ood rows are those of all sources, one source after the other. No train row has a prompt of theirs.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(of) >= 1", "sorted(weights) == sorted(of)")

    of: dict[str, Any] = plug("tasks/sources", by_name=True)
    weights: Annotated[dict[str, float], "at least 0"] = field(default_factory=dict)
    train: Annotated[int, "at least 0"] = 0  # rows; 0 = as many as there are without any row twice
    passes: Annotated[float, "at least 1"] = 1.0  # how often the rows of a source may stand in train, at most
    column: str = "domain"  # that names a row's source

    @property
    def trains(self) -> bool:
        return any(self.weights.values())

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Raises UserError for a source that has too few rows, and for one that gets no row of so few."""
        found = {name: source.rows(seed) for name, source in self.of.items()}
        labelled = lambda name, row: row | {"meta": row.get("meta", {}) | {self.column: name}}
        test, ood = ([labelled(name, r) for name, parts in found.items() for r in parts[split]] for split in ("test", "ood"))
        held = {asked(r) for r in (*test, *ood)}
        own = {name: [r for r in parts["train"] if asked(r) not in held] for name, parts in found.items()}
        counts = self._counts({name: len(rows) for name, rows in own.items()})
        train = [
            labelled(name, own[name][i])
            for name, count in counts.items()
            for i in epoch_order(len(own[name]), 0, count, seed, "mixture", name)
        ]
        order = rng(seed, "mixture").permutation(len(train))
        return splits([train[i] for i in order], test, ood)

    def _counts(self, have: Mapping[str, int]) -> dict[str, int]:
        """Train rows of each source that has a weight."""
        weights = {name: self.weights[name] for name in self.of if self.weights[name]}
        if not weights:
            return {}
        if self.train:
            counts = shares(self.train, weights)
        else:
            total = int(min(have[name] * sum(weights.values()) / weight for name, weight in weights.items()))
            counts = shares(total, weights)
            while any(count > have[name] for name, count in counts.items()):  # by rounding
                counts = shares(total := total - 1, weights)
        for name, count in counts.items():
            there, at = have[name], f"mixture.of.{name}"
            if not there:
                raise UserError(at, "it has no train rows; expected some, or weight 0")
            if not count:
                raise UserError(at, f"none of {sum(counts.values())} train rows is its own: expected more rows, or weight 0")
            if count > self.passes * there:
                more = f"a smaller share, fewer rows, or passes {count / there:.3g}"
                raise UserError(at, f"{count} train rows are its share, and it has {there}: expected {more}")
        return counts

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        return self._of(row).right_attempt(row, draw)

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        return self._of(row).wrong_attempt(row, answers, draw)

    def _of(self, row: dict) -> Source:
        return self.of[row["meta"][self.column]]


def shares(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` whole rows in proportion to the weights, by largest remainder; of equal ones the first named gets the row."""
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    counts = {name: int(share) for name, share in exact.items()}
    first = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in first[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
