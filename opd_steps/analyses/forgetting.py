from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.evaluation.points import kl, side_by_side


@dataclass(frozen=True)
class Forgetting(Analysis):
    """How far a model is from another on a split's prompts: full-vocabulary KL per token, nats
    (a measure of "A distributional perspective of SFT, RL and OPD", blog note by nrehiew).

    reverse_on_model   KL(model || other) on samples of the model: how far it left the other where it goes now
    forward_on_other   KL(other || model) on samples of the other: how much it lost of what the other does
    reverse_on_other   KL(model || other) on samples of the other
    forward_on_model   KL(other || model) on samples of the model
    symmetric          (reverse_on_model + forward_on_other) / 2; 0 between equal models, the same when both are swapped

    `other` is the start of training when the question is forgetting, or a second student.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("other", "data")
    METRICS: ClassVar[tuple[str, ...]] = (
        "forgetting/reverse_on_model",
        "forgetting/forward_on_other",
        "forgetting/reverse_on_other",
        "forgetting/forward_on_model",
        "forgetting/symmetric",
    )

    def measure(self, ctx: Context) -> dict[str, float | None]:
        found = {}
        for sampler in ("model", "other"):
            rows, reverse, forward = ctx.rollouts(sampler), 0.0, 0.0
            for _, (q, p) in side_by_side(rows, {role: ctx.policies[role] for role in ("model", "other")}):
                reverse += float(kl(q, p).double().sum())
                forward += float(kl(p, q).double().sum())
            points = int(rows.length_B.sum())
            found |= {
                f"forgetting/reverse_on_{sampler}": reverse / points,
                f"forgetting/forward_on_{sampler}": forward / points,
            }
        symmetric = (found["forgetting/reverse_on_model"] + found["forgetting/forward_on_other"]) / 2
        return found | {"forgetting/symmetric": symmetric}
