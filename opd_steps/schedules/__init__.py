"""What moves an option of a node while it trains."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol


class Schedule(Protocol):
    """A controller of one option. It is a pure function: what it must remember stands in its state, a dict of plain values.

    VALUES  names of those of its own options that hold values of what it sets: they are checked as such
    READS   the curves that it reads, without `train/`
    sets    an option of every schedule: the path of what it moves, e.g. method.coef
    """

    VALUES: ClassVar[tuple[str, ...]]
    READS: ClassVar[tuple[str, ...]] = ()

    sets: str

    @abstractmethod
    def start(self, now: Any) -> tuple[Any, dict]:
        """(value, state) before the first step; `now`: the value in the node's options."""

    @abstractmethod
    def after(self, step: int, steps: int, metrics: dict[str, float], now: Any, state: dict) -> tuple[Any, dict]:
        """(value for the next step, state) after `step` of `steps`, whose metrics are named `train/<curve>`."""
