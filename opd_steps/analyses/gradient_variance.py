from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import ratio
from opd_steps.config.needs import label, outcome_need, terms
from opd_steps.loop.objective import Objective
from opd_steps.loop.step_rows import StepRows
from opd_steps.nouns.batch import Batch
from opd_steps.objectives.outcome import outcome_B
from opd_steps.objectives.stream import Moment
from opd_steps.seeds import derive
from opd_steps.tasks.selection.uniform import Uniform


@dataclass(frozen=True)
class GradientVariance(Analysis):
    """How much does the gradient of a method vary from batch to batch, at the model's weights and without training it?

    g_k, k = 1 .. m = `batches`, is the gradient, over all weights and before any clipping, of the method's own loss at the first
    step of a training (loop.objective), on batch k: `prompts` prompts drawn anew, `n` samples each. Batches are independent, and
    methods of equal prefix source look at the same ones.

    trace   sum_k |g_k - mean g|^2 / (m - 1): the variance of a batch's gradient, summed over the weights, without bias
    norm    |mean g|; its square exceeds |E g|^2 by trace / m in the mean
    snr     (norm^2 - trace / m) / trace: signal to noise of one batch, its numerator without bias, so that it may fall below 0

    Methods of one mean, as those that differ by a baseline, are compared by trace; others, of different scale, by snr.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("data", "methods")
    METRICS: ClassVar[tuple[str, ...]] = ("variance/{method}/trace", "variance/{method}/norm", "variance/{method}/snr")

    batches: Annotated[int, "at least 2"] = 32
    prompts: Annotated[int, "at least 1"] = 16  # of a batch
    n: Annotated[int, "at least 1"] = 1  # samples per prompt
    micro_batch: Annotated[int, "at least 1"] = 64  # rows in one forward and backward pass

    def measure(self, ctx: Context) -> dict[str, float | None]:
        policy, teachers = ctx.policies["model"], {name: p for name, p in ctx.policies.items() if name != "model"}
        objectives = {name: Objective.from_method(m, policy.max_new_tokens) for name, m in ctx.methods.items()}
        moments = {name: Moments(policy.model) for name in ctx.methods}
        written = cache(ctx.pool.written)  # all rows of a column, for every batch
        policy.model.requires_grad_(True)
        for k in range(self.batches):
            seed, made = derive(ctx.seed, "batch", k), {}
            for name, method in ctx.methods.items():
                batch = self._batch(ctx, method, teachers, seed, written, made)
                moment = Moment(seed=seed, window=policy.max_new_tokens)
                columns = {"outcome": outcome_B(batch.rows, method)} if any(map(outcome_need, terms(method))) else {}
                with torch.enable_grad():
                    objectives[name].backward(policy, batch.rows, columns, teachers, self.micro_batch, moment)
                moments[name].take()
        policy.model.requires_grad_(False)
        return {f"variance/{name}/{key}": value for name, found in moments.items() for key, value in found.figures().items()}

    def _batch(self, ctx: Context, method: dict, teachers: Mapping, seed: int, written: Callable, made: dict) -> Batch:
        """The rows of a method. `made`: those of the methods before it, by their sources."""
        key = (label(method["prefix"]), *sorted({label(row["rows"]) for row in terms(method)}))
        if key not in made:
            rows = StepRows(ctx.policies["model"], teachers, ctx.pool, Uniform(), seed, written)
            made[key] = rows.batch(1, {"prompts": self.prompts, "sampling": {"n": self.n}}, method)
        return made[key]


class Moments:
    """Mean and total variance of a model's gradients, one after the other (Welford), in fp64."""

    def __init__(self, model: nn.Module):
        self.params = list(model.parameters())
        self.mean = [torch.zeros_like(p, dtype=torch.float64) for p in self.params]
        self.count, self.squares = 0, 0.0

    @torch.no_grad()
    def take(self) -> None:
        """The gradient as it stands; the parameters are left without one."""
        self.count += 1
        for p, mean in zip(self.params, self.mean, strict=True):
            delta = -mean if p.grad is None else p.grad.double() - mean
            mean += delta / self.count
            self.squares += float(_square(delta)) * (self.count - 1) / self.count
            p.grad = None

    def figures(self) -> dict[str, float | None]:
        trace, square = self.squares / (self.count - 1), float(sum(map(_square, self.mean)))
        return {"trace": trace, "norm": square**0.5, "snr": ratio(square - trace / self.count, trace)}


def _square(x: Tensor) -> Tensor:
    return x.square().sum()
