"""A source whose rows have a hint that is no answer, and whose corpus teaches to read hints and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from opd_steps.config.plugs import plug
from opd_steps.seeds import rng
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Guided(Source):
    """Rows of the source `of`, each with a column `hint`: what its solution goes by, without going there (DOPD, arXiv 2606.30626).

    landmarks: every `stride`-th character of the solution but the last, as nodes that a walk passes; lines: the first half of its
    lines. In pretraining a share `hints` of the train rows shows its hint in front of the prompt, and a share `answers` its solution;
    behind either stands the solution, behind the others their own corpus text; clean: behind all the solution. The data node's
    option `hints` says how they are written.
    """

    HINTS: ClassVar[bool] = True
    CHECKS: ClassVar[tuple[str, ...]] = ("hints + answers <= 1",)

    of: Any = plug("tasks/sources")
    hint: Literal["landmarks", "lines"] = "landmarks"
    stride: Annotated[int, "at least 2"] = 3
    hints: Annotated[float, "0 to 1"] = 0.35
    answers: Annotated[float, "0 to 1"] = 0.35
    clean: bool = False

    def rows(self, seed: int) -> dict[str, list[dict]]:
        found, draw = self.of.rows(seed), rng(seed, "guided")
        found = {
            split: [row | {"meta": row["meta"] | {"hint": self._hint(row)}} for row in rows] for split, rows in found.items()
        }
        return found | {"train": [self._shown(row, draw.random()) for row in found["train"]]}

    def _hint(self, row: dict) -> str:
        if self.hint == "landmarks":
            return row["solution"][:-1][self.stride - 1 :: self.stride]
        lines = row["solution"].splitlines()
        return "\n".join(lines[: len(lines) // 2])

    def _shown(self, row: dict, chance: float) -> dict:
        if chance >= self.hints + self.answers:
            return row | ({"corpus": row["solution"]} if self.clean else {})
        shown = row["meta"]["hint"] if chance < self.hints else row["solution"]
        return row | {"hints": {"right": [shown], "wrong": []}, "corpus": row["solution"]}
