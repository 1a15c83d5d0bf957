"""A source whose prompts show a solution: what a model makes of what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opd_steps.config.plugs import plug
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Told(Source):
    """Rows of the source `of`, each prompt with its own solution shown as `hints` writes it (a plug as that of a data node): an
    evaluation on them is that of a privileged teacher. `other`: another row's solution, the control.
    """

    of: Any = plug("tasks/sources")
    hints: Any = plug("tasks/hints")
    other: bool = False

    def rows(self, seed: int) -> dict[str, list[dict]]:
        return {name: [self._told(rows, i) for i in range(len(rows))] for name, rows in self.of.rows(seed).items()}

    def _told(self, rows: list[dict], index: int) -> dict:
        shown = rows[(index + self.other) % len(rows)]["solution"]
        return rows[index] | {"prompt": self.hints.hinted_prompt(rows[index]["prompt"], right=[shown], wrong=[])}
