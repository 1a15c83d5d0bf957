from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import ratio
from opd_steps.evaluation.points import side_by_side


@dataclass(frozen=True)
class Ranking(Analysis):
    """Does the teacher prefer right answers? Among the model's samples of one prompt, by the trajectory score
    G = mean_t (log p - log q) of the sampled tokens, p the teacher, q the model (arXiv 2605.03677).

    inverted_pairs      share of (wrong, right) pairs within a prompt with G_wrong > G_right
    violating_prompts   share of mixed prompts with mean G of the wrong samples above that of the right ones
    gap                 mean over mixed prompts of mean(G | right) - mean(G | wrong), nats per token
    mixed_prompts       share of prompts with both right and wrong samples
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = (
        "ranking/inverted_pairs",
        "ranking/violating_prompts",
        "ranking/gap",
        "ranking/mixed_prompts",
    )

    n: Annotated[int, "2 to 1024"] = 8  # samples per prompt

    def measure(self, ctx: Context) -> dict[str, float | None]:
        rows = ctx.rollouts("model", self.n)
        ratios = []
        for at, (q, p) in side_by_side(rows, {role: ctx.policies[role] for role in ("model", "teacher")}):
            action_N = rows.action_N[at].to(q.logp_NV.device)
            ratios.append((p.logp(action_N) - q.logp(action_N)).double().cpu())
        return rank(rows.mean_B(torch.cat(ratios)).view(-1, self.n), rows.reward_B.view(-1, self.n) > 0)


def rank(score_GN: Tensor, right_GN: Tensor) -> dict[str, float | None]:
    """The metrics of G prompts with N samples each."""
    inverted = pairs = 0
    gaps = []
    for score_N, right_N in zip(score_GN, right_GN, strict=True):
        right, wrong = score_N[right_N], score_N[~right_N]
        if len(right) and len(wrong):
            inverted += int((wrong[:, None] > right[None, :]).sum())
            pairs += len(wrong) * len(right)
            gaps.append(float(right.mean() - wrong.mean()))
    mixed = len(gaps)
    return {
        "ranking/inverted_pairs": ratio(inverted, pairs),
        "ranking/violating_prompts": ratio(sum(g < 0 for g in gaps), mixed),
        "ranking/gap": ratio(sum(gaps), mixed),
        "ranking/mixed_prompts": mixed / len(score_GN),
    }
