from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.errors import UserError
from opd_steps.gradients import Gradient
from opd_steps.nouns.gradient import GradientWork
from opd_steps.process import ranks
from opd_steps.seeds import derive


@dataclass(frozen=True)
class PerRecord(Gradient):
    """g = (1/B) [ sum_i g_i min(1, clip / |g_i|) + noise * clip * N(0, I) ]: each record's gradient is clipped, then noise is added
    (DP-SGD, arXiv 1607.00133). What that costs of privacy is counted by `private`.

    A record is a row of the batch, B their number, g_i the gradient of B times the row's share of the loss: with `seq_mean` that of
    the row's mean. noise 0: clipping alone. One backward pass a row. Raises UserError in several processes.
    """

    ROWS: ClassVar[int] = 1
    PARALLEL: ClassVar[bool] = False
    METRICS: ClassVar[tuple[str, ...]] = ("record_norm", "records_clipped")

    clip: Annotated[float, "above 0"] = 1.0
    noise: Annotated[float, "at least 0"] = 0.0  # in multiples of clip

    def make(self, model: torch.nn.Module, seed: int, updates: int) -> Records:
        return Records(self.clip, self.noise, model, seed)


class Records(GradientWork):
    """`clip` may be infinite where there is no noise. No state between steps: the noise is a function of seed and update."""

    def __init__(self, clip: float, noise: float, model: torch.nn.Module, seed: int):
        if ranks.world() > 1:
            raise UserError("gradient.name", "whole gradients of records are clipped: it works in one process")
        self.clip, self.noise, self.seed = clip, noise, seed
        self.params = [p for p in model.parameters() if p.requires_grad]

    def begin(self, update: int, rows: int, rate: float) -> None:
        self.update, self.rows, self.norms = update, rows, []
        self.sums: list[torch.Tensor | None] = [None] * len(self.params)

    def after_rows(self) -> None:
        grads = [p.grad for p in self.params]
        norm = self.rows * torch.linalg.vector_norm(torch.stack([g.norm() for g in grads if g is not None]))
        factor = (self.clip / norm.clamp(min=1e-12)).clamp(max=1.0)
        for i, grad in enumerate(grads):
            if grad is not None:
                self.sums[i] = grad * factor if self.sums[i] is None else self.sums[i].add_(grad * factor)
                self.params[i].grad = None
        self.norms.append(float(norm))

    def finish(self) -> dict[str, float]:
        draw = torch.Generator().manual_seed(derive(self.seed, "noise", self.update))
        scale = self.noise * self.clip / self.rows if self.noise else 0.0
        for p, total in zip(self.params, self.sums, strict=True):
            p.grad = total
            if scale:
                noise = scale * torch.randn(p.shape, generator=draw).to(p)
                p.grad = noise if total is None else total + noise
        if not self.norms:  # a step without records
            return {}
        norms = torch.tensor(self.norms)
        return {"record_norm": float(norms.mean()), "records_clipped": float((norms > self.clip).float().mean())}
