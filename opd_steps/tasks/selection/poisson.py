from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.selection import Selection


@dataclass(frozen=True)
class Poisson(Selection):
    """Each prompt comes by its own chance count / size, whatever the others do: Poisson sampling, which accounts of privacy presume
    (arXiv 1607.00133). `count` is the mean; a step may have no prompt at all."""

    CHANCE: ClassVar[bool] = True
    UNCARRIED: ClassVar[str] = "each of its steps has as many rows as the last"

    def pick(self, size: int, seed: int, step: int, count: int, rates: dict[int, float] | None = None) -> list[int]:
        """The prompts of a step, in order: a function of seed and step alone. Raises UserError for a chance above 1."""
        if count > size:
            raise UserError("prompts", f"expected at most the {size} that there are, found {count}")
        return (rng(seed, "poisson", step).random(size) * size < count).nonzero()[0].tolist()
