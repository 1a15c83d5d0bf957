from __future__ import annotations

from dataclasses import dataclass

import torch

from opd_steps.gradients import Gradient


@dataclass(frozen=True)
class Plain(Gradient):
    """The gradient as it is: the sum over all rows."""

    def make(self, model: torch.nn.Module, seed: int) -> _Nothing:
        return _Nothing()


class _Nothing:
    """No state."""

    def begin(self, step: int, rows: int) -> None:
        pass

    def after_rows(self) -> None:
        pass

    def finish(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass
