"""A new task beside an old one: what is learned and what is forgotten in one evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opd_steps.config.plugs import plug
from opd_steps.tasks.rows import splits


@dataclass(frozen=True)
class WithOld:
    """Train and test rows of the source `of`, the new task; the ood split is the test split of `old`, the task that came before."""

    of: Any = plug("tasks/sources")
    old: Any = plug("tasks/sources")

    def rows(self, seed: int) -> dict[str, list[dict]]:
        new, old = self.of.rows(seed), self.old.rows(seed)
        return splits(
            *(
                [{k: v for k, v in row.items() if k != "id"} for row in rows]
                for rows in (new["train"], new["test"], old["test"])
            )
        )
