"""Two domains in one data set: what teachers are routed by, and what is measured apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.seeds import rng
from opd_steps.tasks.rows import TEXTS, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Domains(Source):
    """Rows of the sources `one` and `other`, each with its `names` as the column `domain` (MOPD, arXiv 2606.30406).

    Train holds the rows of both, shuffled, or of the one domain `only`. The test split is that of `one`, the ood split the test
    split of `other`: one evaluation tells what a model can in each. capitals: texts of `other` are written in capitals, so that
    domains with one alphabet have none of their prompts in common.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(names) == 2", "unique(names)")

    one: Any = plug("tasks/sources")
    other: Any = plug("tasks/sources")
    names: list[str] = field(default_factory=lambda: ["one", "other"])
    only: Literal["", "one", "other"] = ""  # train on this domain alone
    capitals: bool = False

    def rows(self, seed: int) -> dict[str, list[dict]]:
        one = _labelled(self.one.rows(seed), self.names[0])
        other = _labelled(self.other.rows(seed), self.names[1], self.capitals)
        train = (one["train"] if self.only != "other" else []) + (other["train"] if self.only != "one" else [])
        order = rng(seed, "domains").permutation(len(train))
        return splits([train[i] for i in order], one["test"], other["test"])

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        return self._attempt(row, lambda source, plain: source.right_attempt(plain, draw))

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        return self._attempt(row, lambda source, plain: source.wrong_attempt(plain, answers, draw))

    def _attempt(self, row: dict, attempt: Callable[[Source, dict], str]) -> str:
        """By the row's own domain, in the letters in which that writes."""
        if row["meta"]["domain"] == self.names[0]:
            return attempt(self.one, row)
        if not self.capitals:
            return attempt(self.other, row)
        return attempt(self.other, row | {key: row[key].lower() for key in TEXTS if key in row}).upper()


def _labelled(found: dict[str, list[dict]], name: str, capitals: bool = False) -> dict[str, list[dict]]:
    """Rows by split, with the column."""

    def labelled(row: dict) -> dict:
        texts = {key: row[key].upper() for key in TEXTS if key in row} if capitals else {}
        return row | texts | {"meta": row.get("meta", {}) | {"domain": name}}

    return {split: [labelled(row) for row in rows] for split, rows in found.items()}
