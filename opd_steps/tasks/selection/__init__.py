"""Which prompts a step takes."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Protocol


class Selection(Protocol):
    """Picks prompts by their number.

    RATES   whether it reads the node's `pass_rates`
    CHANCE  whether each prompt comes by a chance of its own, count / size: then `count` is what is expected, and means over the rows
            of a step divide by that
    """

    RATES: ClassVar[bool] = False
    CHANCE: ClassVar[bool] = False

    @abstractmethod
    def pick(self, size: int, seed: int, step: int, count: int, rates: dict[int, float] | None = None) -> list[int]:
        """`count` of `size` prompts, a function of its arguments alone. `rates`: pass rate by prompt, where the node names some."""
