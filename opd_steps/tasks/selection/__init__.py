"""Which prompts a step takes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol


class Selection(Protocol):
    """Picks prompts by their number.

    RATES    whether it reads the node's `pass_rates`
    TEACHER  whether it reads its `teacher_rates` as well: a prompt's rate is then (student, teacher)
    CHANCE   whether each prompt comes by a chance of its own, count / size: then `count` is what is expected, and means over the rows
             of a step divide by that
    """

    RATES: ClassVar[bool] = False
    TEACHER: ClassVar[bool] = False
    CHANCE: ClassVar[bool] = False

    @abstractmethod
    def pick(self, size: int, seed: int, step: int, count: int, rates: dict[int, Any] | None = None) -> list[int]:
        """`count` of `size` prompts, a function of its arguments alone. `rates`: mean reward by prompt, where the node names some."""
