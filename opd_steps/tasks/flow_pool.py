"""Prompts for a flow of images, as rows of a split's file: what every task of images shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.flow_lines import line

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy


class FlowPool(Pool):
    """`rows`: of a split's file, each with an `id`; `draws`: times at which a written image is learned from."""

    def __init__(self, policy: FlowPolicy, rows: list[dict], draws: int):
        self.policy, self.data, self.draws = policy, rows, draws

    def __len__(self) -> int:
        return len(self.data)

    def column(self, name: str, index: int) -> Any:
        if name not in self.data[index]:
            raise UserError("data", f"no column '{name}'; found {', '.join(self.data[index])}")
        return self.data[index][name]

    def name(self, index: int) -> str:
        return self.data[index]["id"]

    def lines(self, column: str, picks: Sequence[int], latent: Callable[[dict], Tensor]) -> Trajectory:
        """Lines to the column's images of these rows, whose latents `latent` tells, flat or not."""
        shift = self.policy.family.shift
        each = [line(latent(self.data[i]).flatten(), self.draws, shift, column, i) for i in picks]
        states, actions, sigmas = (list(part) for part in zip(*each, strict=True))
        return Trajectory(self.contexts(picks), actions, torch.tensor(list(picks)), extra={"latents": states, "sigmas": sigmas})
