from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.gradients import Gradient
from opd_steps.gradients._accountant import noise_for, spent
from opd_steps.gradients.per_record import Records


@dataclass(frozen=True)
class Private(Gradient):
    """DP-SGD and what it costs: g = (1 / q N) [ sum_i g_i min(1, clip / |g_i|) + noise clip N(0, I) ] over records i that came each
    with chance q (arXiv 1607.00133), with (epsilon, delta) after each update by opacus' account (arXiv 1908.10530).

    `epsilon`: what all of the node's updates together may spend, from which the least noise follows; 0: `noise`, in clips, is given.
    With both 0 nothing is private, and no epsilon is drawn; with clip 0, no clip, this is then the plain gradient, row by row.
    The noise is drawn from the node's seed, so that runs repeat: whoever publishes a model keeps that seed to himself.
    """

    ROWS: ClassVar[int] = 1
    PARALLEL: ClassVar[bool] = False
    APART: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("record_norm", "records_clipped", "noise", "epsilon", "delta")
    CHECKS: ClassVar[tuple[str, ...]] = (
        "epsilon == 0 or noise == 0",
        "clip > 0 or epsilon == noise == 0",
    )

    clip: Annotated[float, "at least 0"] = 1.0
    epsilon: Annotated[float, "at least 0"] = 2.0
    noise: Annotated[float, "at least 0"] = 0.0
    delta: Annotated[float, "above 0, below 1"] = 1e-5

    def make(self, model: torch.nn.Module, seed: int, updates: int) -> Records:
        return _Accounted(self, model, seed, updates)


class _Accounted(Records):
    """Its account has no state: it is a function of how many updates there were."""

    def __init__(self, options: Private, model: torch.nn.Module, seed: int, updates: int):
        super().__init__(options.clip or math.inf, options.noise, model, seed)
        self.options, self.updates = options, updates

    def begin(self, update: int, rows: int, rate: float) -> None:
        super().begin(update, rows, rate)
        if self.options.epsilon and not self.noise:
            self.noise = noise_for(self.options.epsilon, rate, self.updates, self.options.delta)
        self.rate = rate

    def finish(self) -> dict[str, float]:
        found = super().finish()
        if not self.noise:
            return found
        epsilon = spent(self.noise, self.rate, self.update, self.options.delta)
        return found | {"noise": self.noise, "epsilon": epsilon, "delta": self.options.delta}
