"""Data of several kinds, each judged by its own verifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class Routed(Verifier):
    """Each row is judged by the verifier that its value in a column of the data names: {value: verifier}, as teachers are routed.

    A row whose value is not named is refused when the data are made. What the verifiers measure beside correctness is left out.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(to) >= 1",)
    AT_ONCE: ClassVar[bool] = True

    to: dict[str, Any] = plug("tasks/verifiers", by_name=True)
    column: str = "domain"

    @property
    def alphabet(self) -> str:
        return "".join(verifier.alphabet for verifier in self.to.values())

    def of_row(self, row: Mapping) -> Verifier:
        known = row.get("meta", {}) | row
        if (value := str(known.get(self.column))) not in self.to:
            said = f"is '{value}'" if self.column in known else "is not there"
            raise UserError("verifier routed", f"{self.column} of a row {said}; it judges {', '.join(self.to)}")
        return self.to[value].of_row(row)

    def score(self, completion: str, answer: str) -> float:
        raise UserError("verifier routed", "it judges rows of data, and an answer alone is none: expected it outermost")

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping]) -> list[float]:
        calls: dict[tuple, list[int]] = {}
        for i, row in enumerate(rows):
            verifier = self.of_row(row)
            calls.setdefault((id(verifier), None if verifier.AT_ONCE else row["id"]), []).append(i)
        scores = {}
        for mine in calls.values():
            found = self.of_row(rows[mine[0]]).judge([completions[i] for i in mine], [rows[i] for i in mine])
            scores |= dict(zip(mine, found, strict=True))
        return [scores[i] for i in range(len(rows))]
