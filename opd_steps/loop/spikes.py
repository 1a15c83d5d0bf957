"""Gradients that are far larger than those before: their updates are left out, or end the training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median

from opd_steps.errors import UserError
from opd_steps.nouns.hook import Hook


class Spikes(Hook):
    """A spike is a gradient norm (before clipping) above `factor` times the median of the learner's last `window` norms; the first
    quarter of a window is spared. Spikes stay in the window: what lasts is the new scale, and trained on again.

    train/spikes counts those of a step, of all learners; train/spike_norm is the largest of them, at steps that have any. Its state:
    the norms. With factor 0 it does nothing.
    """

    def __init__(self, options: dict, end: Callable[[str], UserError]):
        self.options, self.end = options, end
        self.norms: dict[str, list[float]] = defaultdict(list)
        self.step, self.found = 0, []

    def begin(self, step: int) -> None:
        self.step, self.found = step, []

    def allows(self, learner: str, figures: dict[str, float]) -> bool:
        """Whether an update of a learner with these figures may be made. All ranks hold the same ones."""
        if not (factor := self.options["factor"]):
            return True
        window = self.options["window"]
        norm = next(value for name, value in figures.items() if name.endswith("/grad_norm"))
        norms = self.norms[learner]
        usual = median(norms) if 4 * len(norms) >= window else None
        norms.append(norm)
        del norms[:-window]
        if usual is None or norm <= factor * usual:
            return True
        self.found.append(norm)
        said = f"the gradient norm {norm:.4g} is more than {factor:g} times the median of the last updates, {usual:.4g}"
        if self.options["then"] == "stop":
            raise self.end(said)
        print(f"step {self.step}: {said}; this update is left out", flush=True)
        return False

    def figures(self) -> dict[str, float]:
        """Of the step."""
        found = {"spikes": float(len(self.found))} if self.options["factor"] else {}
        return found | ({"spike_norm": max(self.found)} if self.found else {})

    def state_dict(self) -> dict:
        return {"norms": dict(self.norms)}

    def load_state_dict(self, state: dict) -> None:
        self.norms.update(state["norms"])
