from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._continue import continued
from opd_steps.analyses._mean import mean
from opd_steps.seeds import derive

FRACTIONS = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class PrefixDistortion(Analysis):
    """How good is the teacher where the student leads it? Its accuracy when it goes on from prefixes of the model's own
    samples, cut after floor(fraction * length) tokens (arXiv 2605.11182).

    accuracy_at_0          the teacher alone
    accuracy_at_25 ..._75  after that share, in per cent, of the model's response
    model_accuracy         of the model's own responses
    slope                  of the least-squares line of the four accuracies over the fraction; below 0: prefixes mislead it
    right_at_*, wrong_at_* the four accuracies on the samples of which the model itself makes a right, a wrong answer. The first
                           are the control: a fall there is not an error that the teacher inherits. The second say how many
                           of the model's failures the teacher mends, and until when

    Prompts and seeds are the same at every fraction; a response is at most max_new_tokens long, prefix included.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    BRANCHES: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = (
        "distortion/accuracy_at_0",
        "distortion/accuracy_at_25",
        "distortion/accuracy_at_50",
        "distortion/accuracy_at_75",
        "distortion/model_accuracy",
        "distortion/slope",
        "distortion/right_at_0",
        "distortion/right_at_25",
        "distortion/right_at_50",
        "distortion/right_at_75",
        "distortion/wrong_at_0",
        "distortion/wrong_at_25",
        "distortion/wrong_at_50",
        "distortion/wrong_at_75",
    )

    n: Annotated[int, "at least 1"] = 1  # samples per prompt

    def measure(self, ctx: Context) -> dict[str, float | None]:
        rows = ctx.rollouts("model", self.n)
        prompts = rows.prompt_B.tolist()
        seeds = [derive(ctx.seed, "continue", p, i % self.n) for i, p in enumerate(prompts)]
        found, right_B = {"model_accuracy": mean(rows.reward_B > 0)}, rows.reward_B > 0
        for fraction in FRACTIONS:
            prefixes = [a[: int(fraction * len(a))] for a in rows.actions]
            done = continued(ctx.policies["teacher"], rows.contexts, prefixes, prompts, seeds)
            done_B = ctx.pool.judge(done).reward_B > 0
            for name, where_B in (("accuracy", None), ("right", right_B), ("wrong", ~right_B)):
                found[f"{name}_at_{100 * fraction:.0f}"] = mean(done_B, where_B)
        found["slope"] = slope([found[f"accuracy_at_{100 * fraction:.0f}"] for fraction in FRACTIONS])
        return {f"distortion/{name}": value for name, value in found.items()}


def slope(accuracies: list[float]) -> float:
    """Least-squares slope over FRACTIONS."""
    x = torch.tensor(FRACTIONS, dtype=torch.float64) - sum(FRACTIONS) / len(FRACTIONS)
    return float(x @ torch.tensor(accuracies, dtype=torch.float64) / (x @ x))
