"""Controllers at work: each sets one option of the node from what was measured; the objective follows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from opd_steps.config.curve_names import controlled
from opd_steps.config.option_paths import get_option, with_option
from opd_steps.config.teachers import method_of
from opd_steps.loop.objective import Objective
from opd_steps.nouns.hook import Hook
from opd_steps.nouns.policy import Policy


class Conductor(Hook):
    """An after-step hook. A controller is a pure function with a state of plain values:

    start(now) -> (value, state)                                    before the first step
    after(step, steps, metrics, now, state) -> (value, state)       for the next step

    A step whose update was left out has no figures of its own (loop.guard): controllers see those of the step before it.

    `options` is this object's own copy of the node's options, always as they stand now; `objectives` and `policies` of all learners
    and teachers follow.
    """

    def __init__(
        self, options: dict, controllers: Sequence[Any], objectives: Mapping[str, Objective], policies: Sequence[Policy]
    ):
        self.options = copy.deepcopy(options)
        self.controllers, self.objectives, self.policies = controllers, objectives, policies
        self.states: list[dict] = []
        self.seen: dict[str, float] = {}
        for controller in controllers:
            value, state = controller.start(get_option(self.options, controller.sets))
            self.states.append(state)
            self._set(controller.sets, value)
        self._follow()

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        """Log the values that this step used, then move on."""
        for controller in self.controllers:
            value = get_option(self.options, controller.sets)
            if isinstance(value, (int, float)):
                metrics[f"train/{controlled(controller.sets)}"] = float(value)
        self.seen = dict(metrics) if "train/loss" in metrics else self.seen
        for k, controller in enumerate(self.controllers if self.seen else ()):
            now = get_option(self.options, controller.sets)
            value, self.states[k] = controller.after(step, self.options["steps"], self.seen, now, self.states[k])
            self._set(controller.sets, value)
        self._follow()

    def _set(self, path: str, value: Any) -> None:
        self.options = with_option(self.options, path, value)

    def _follow(self) -> None:
        if not self.controllers:
            return
        budget = self.options["sampling"]["max_new_tokens"]
        for name, objective in self.objectives.items():
            fresh = Objective.from_method(method_of(self.options, name), budget)
            objective.streams, objective.aggregate, objective.window = fresh.streams, fresh.aggregate, budget
        for policy in self.policies:
            policy.sample_by(self.options["sampling"])

    def state_dict(self) -> dict:
        values = [get_option(self.options, c.sets) for c in self.controllers]
        return {"states": self.states, "values": values, "seen": self.seen if self.controllers else {}}

    def load_state_dict(self, state: dict) -> None:
        self.states, self.seen = state["states"], state["seen"]
        for controller, value in zip(self.controllers, state["values"], strict=True):
            self._set(controller.sets, value)
        self._follow()
