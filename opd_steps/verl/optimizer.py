"""Our optimizer for verl's workers: decay on matrices alone, and our learning rate of each update."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from opd_steps.loop.optim import decayed, learning_rate


class AdamW(torch.optim.AdamW):
    """AdamW over groups as local training has them; `options`: a node's `optim`, `updates`: of the whole training.

    verl's own schedule must be constant: this one counts its own updates, by the moments, which a checkpoint holds.
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float, weight_decay: float, betas: tuple, options: dict, updates: int
    ):
        self.options, self.updates = dict(options), updates
        super().__init__(decayed(params, weight_decay), lr=lr, betas=tuple(betas), eps=options["eps"], fused=True)

    @torch.no_grad()
    def step(self, closure=None):
        made = max((float(state["step"]) for state in self.state.values()), default=0.0)
        for group in self.param_groups:
            group["lr"] = learning_rate(int(made) + 1, self.updates, self.options)
        return super().step(closure)
