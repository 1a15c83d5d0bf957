"""Our optimizer for verl's workers: decay on matrices alone, our learning rate of each update, and models that follow the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from opd_steps.loop.optim import decayed, learning_rate


class AdamW(torch.optim.AdamW):
    """AdamW over groups as local training has them; `options`: a node's `optim`, `updates`: of the whole training.

    verl's own schedule must be constant: this one counts its own updates, by the moments, which a checkpoint holds.
    """

    mine: AdamW | None = None  # of this process, in which verl makes one

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, betas: tuple, options: dict, updates: int
    ):
        self.options, self.updates, self.followers = dict(options), updates, []
        super().__init__(decayed(params, weight_decay), lr=lr, betas=tuple(betas), eps=options["eps"], fused=True)
        type(self).mine = self

    @torch.no_grad()
    def step(self, closure=None):
        made = max((float(state["step"]) for state in self.state.values()), default=0.0)
        for group in self.param_groups:
            group["lr"] = learning_rate(int(made) + 1, self.updates, self.options)
        found = super().step(closure)
        for follow in self.followers:
            follow()
        return found

    @torch.no_grad()
    def followed_by(self, model: nn.Module, rate: float) -> None:
        """theta_m <- (1 - rate) theta_m + rate theta after every update from now on. Of rate 1 the model is the weights, now as well;
        another average is part of what a checkpoint holds, and goes on from there. Raises ValueError for a model of another shape.
        """
        trained = [p for group in self.param_groups for p in group["params"]]
        others = [p.requires_grad_() for p in model.parameters()]  # else they were in no group
        others = [p for group in decayed(others, 0.0) for p in group["params"]]
        model.requires_grad_(False)
        if [p.shape for p in trained] != [p.shape for p in others]:
            raise ValueError("an average of the student's weights needs a teacher of the student's own shape")
        name, pairs = f"average {len(self.followers)}", list(zip(trained, others, strict=True))
        for p, other in pairs:
            if rate == 1.0:
                _local(other).copy_(_local(p))
            elif name in self.state.get(p, {}):
                _local(other).copy_(_local(self.state[p][name]))

        def follow() -> None:
            for p, other in pairs:
                _local(other).lerp_(_local(p).to(other.dtype), rate)
                if rate != 1.0:
                    self.state[p][name] = other.detach()

        self.followers.append(follow)


def _local(tensor: Tensor) -> Tensor:
    """A rank's own part: verl cuts weights as we do, by a mesh of its own."""
    return tensor.detach().to_local() if hasattr(tensor, "to_local") else tensor.detach()
