"""The gradient of a learner at work: what happens between the backward passes of a step and its update."""

from __future__ import annotations


class GradientWork:
    """It reads and leaves `.grad` of the learner's parameters. What it must remember is its state. This one does nothing: the sum
    over all rows stays as it is."""

    def begin(self, update: int, rows: int, rate: float) -> None:
        """Before the first backward pass of update number `update` (from 1). `rows`: what means divide by; `rate`: nouns.batch."""

    def after_rows(self) -> None:
        """After each backward pass, of one micro-batch."""

    def finish(self) -> dict[str, float]:
        """Before the update: leave in `.grad` what the optimizer is to see. Figures of the step."""
        return {}

    def state_dict(self) -> dict:
        """Plain values and tensors, by name."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave."""
