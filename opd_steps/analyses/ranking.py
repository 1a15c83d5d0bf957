from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import pearson, ratio
from opd_steps.evaluation.points import side_by_side


@dataclass(frozen=True)
class Ranking(Analysis):
    """Does the teacher prefer right answers? Among the model's samples of one prompt, by the trajectory score
    G = mean_t (log p - log q) of the sampled tokens, p the teacher, q the model (arXiv 2605.03677).

    inverted_pairs      share of (wrong, right) pairs within a prompt with G_wrong > G_right
    violating_prompts   share of mixed prompts with mean G of the wrong samples above that of the right ones
    gap                 mean over mixed prompts of mean(G | right) - mean(G | wrong), nats per token
    mixed_prompts       share of prompts with both right and wrong samples
    auc                 share of all (wrong, right) pairs, of whatever prompts, with G_right > G_wrong, ties one half: .5 says nothing
    rank_correlation    mean over mixed prompts, whose scores are not all equal, of Spearman's correlation of G with the outcome
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = (
        "ranking/inverted_pairs",
        "ranking/violating_prompts",
        "ranking/gap",
        "ranking/mixed_prompts",
        "ranking/auc",
        "ranking/rank_correlation",
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
    gaps, correlations = [], []
    for score_N, right_N in zip(score_GN, right_GN, strict=True):
        right, wrong = score_N[right_N], score_N[~right_N]
        if len(right) and len(wrong):
            inverted += int((wrong[:, None] > right[None, :]).sum())
            pairs += len(wrong) * len(right)
            gaps.append(float(right.mean() - wrong.mean()))
            correlations.append(pearson(ranks(score_N), right_N.double()))
    mixed = len(gaps)
    return {
        "ranking/inverted_pairs": ratio(inverted, pairs),
        "ranking/violating_prompts": ratio(sum(g < 0 for g in gaps), mixed),
        "ranking/gap": ratio(sum(gaps), mixed),
        "ranking/mixed_prompts": mixed / len(score_GN),
        "ranking/auc": auc(score_GN.flatten(), right_GN.flatten()),
        "ranking/rank_correlation": ratio(
            sum(c for c in correlations if c is not None), sum(c is not None for c in correlations)
        ),
    }


def auc(score_N: Tensor, right_N: Tensor) -> float | None:
    """P(score of a right one > of a wrong one) + P(equal) / 2, by Mann and Whitney's rank sum; None without both kinds."""
    many, few = int(right_N.sum()), int((~right_N).sum())
    return ratio(float(ranks(score_N)[right_N].sum()) - many * (many + 1) / 2, many * few)


def ranks(x_N: Tensor) -> Tensor:
    """1 for the smallest; equal values share the mean of their places."""
    _, index_N, count_K = x_N.unique(return_inverse=True, return_counts=True)
    return (count_K.cumsum(0) - (count_K - 1) / 2.0).double()[index_N]
