from __future__ import annotations

from dataclasses import dataclass

from opd_steps.seeds import epoch_order
from opd_steps.tasks.selection import Selection


@dataclass(frozen=True)
class Uniform(Selection):
    """Shuffled epochs over all prompts."""

    def pick(self, size: int, seed: int, step: int, count: int, rates: dict[int, float] | None = None) -> list[int]:
        """The prompts of a step: a function of seed and step alone. `rates`: pass rate by prompt, where known."""
        return epoch_order(size, (step - 1) * count, count, seed, "prompts")
