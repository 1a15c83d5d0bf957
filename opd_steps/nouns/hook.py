"""Hooks: what looks at a training after each of its steps, and may change it."""

from __future__ import annotations

from typing import Any


class Hook:
    """Called after every step. What it must remember is its state, so that a resumed run ends with the same bytes.

    over   whether the training ends after the step that it was called for
    """

    over: bool = False

    def before_step(self, policy: Any) -> None:
        """Before each update of the optimizer; the gradients are there and not clipped yet."""

    def __call__(self, step: int, policy: Any, metrics: dict[str, float]) -> None:
        """After a step (from 1); it may add to the step's metrics, named `train/<curve>`."""

    def state_dict(self) -> dict:
        """Plain values and tensors, by name."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave."""
