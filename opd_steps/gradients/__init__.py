"""Gradient plugs: what happens between the backward passes of a step and its update. `make(learner)` returns the object that does it."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch


class Work(Protocol):
    """The gradient of one learner, at work. `.grad` of its parameters is what it reads and leaves."""

    def begin(self, step: int, rows: int) -> None:
        """Before the first backward pass of an update on so many rows."""

    def after_rows(self) -> None:
        """After each backward pass, of one micro-batch."""

    def finish(self) -> dict[str, float]:
        """Before the update: leave in `.grad` what the optimizer is to see. Figures of the step."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class Gradient(Protocol):
    """ROWS     rows of one backward pass; 0: the node's micro_batch
    METRICS  the figures that it draws
    """

    ROWS: ClassVar[int] = 0
    METRICS: ClassVar[tuple[str, ...]] = ()

    def make(self, model: torch.nn.Module, seed: int) -> Work:
        """For a learner's model."""
