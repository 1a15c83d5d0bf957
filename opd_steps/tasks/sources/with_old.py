"""A new task beside an old one: what is learned and what is forgotten in one evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.tasks.rows import splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class WithOld(Source):
    """Train and test rows of the source `of`, the new task; the ood split is the test split of `old`, the task that came before.

    Raises UserError when `old` has fewer train rows than are kept.
    """

    of: Any = plug("tasks/sources")
    old: Any = plug("tasks/sources")
    keep: Annotated[int, "at least 0"] = 0  # train rows of the old task that stay among the new ones

    def rows(self, seed: int) -> dict[str, list[dict]]:
        new, old = self.of.rows(seed), self.old.rows(seed)
        if self.keep > len(old["train"]):
            raise UserError("with_old.keep", f"expected 0 to {len(old['train'])}, the old task's train rows; found {self.keep}")
        train = [*new["train"], *old["train"][: self.keep]]
        return splits(train, new["test"], old["test"])
