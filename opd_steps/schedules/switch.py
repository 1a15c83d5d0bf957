from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Switch:
    """The option takes the value `to` after a share `at` of the steps: a second phase (REOPOLD, arXiv 2603.11137; PACED, 2603.11178)."""

    VALUES: ClassVar[tuple[str, ...]] = ("to",)  # options that hold values of what it sets

    sets: str
    to: Any
    at: float = 0.5  # share of the node's steps

    def __post_init__(self) -> None:
        if not 0 < self.at < 1:
            raise ValueError(f"at is a share of the steps between 0 and 1, found {self.at}")

    def start(self, now: Any) -> tuple[Any, dict]:
        return now, {}

    def after(self, step: int, steps: int, metrics: dict[str, float], now: Any, state: dict) -> tuple[Any, dict]:
        return (self.to if step >= self.at * steps else now), state
