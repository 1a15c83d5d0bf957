from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import mean
from opd_steps.evaluation.points import kl, side_by_side
from opd_steps.objectives.change_point import release_point, teacher_margin


@dataclass(frozen=True)
class PositionSignal(Analysis):
    """Where in a response does the teacher have something to say? Means over decision points of the model's own samples by
    quarter of the response, q1 to q4: token t of T is in quarter floor(4 t / T) (arXiv 2602.15260, 2605.13643).

    log_ratio_q*                mean |log p - log q| of the sampled token, nats; p the teacher, q the model
    reverse_kl_q*               mean KL(q || p) over the full vocabulary, nats
    margin_correct_q*, _wrong_  the teacher's best minus its second best log-prob within topk(q), over correct and over wrong
                                responses: how clearly it separates what the model considers
    released_correct, _wrong    share of responses whose margin falls (objectives.change_point on means of `block` tokens)
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = (
        "signal/log_ratio_q1",
        "signal/log_ratio_q2",
        "signal/log_ratio_q3",
        "signal/log_ratio_q4",
        "signal/reverse_kl_q1",
        "signal/reverse_kl_q2",
        "signal/reverse_kl_q3",
        "signal/reverse_kl_q4",
        "signal/margin_correct_q1",
        "signal/margin_correct_q2",
        "signal/margin_correct_q3",
        "signal/margin_correct_q4",
        "signal/margin_wrong_q1",
        "signal/margin_wrong_q2",
        "signal/margin_wrong_q3",
        "signal/margin_wrong_q4",
        "signal/released_correct",
        "signal/released_wrong",
    )

    k: Annotated[int, "2 to 1024"] = 4  # the model's likeliest tokens, among which the teacher's margin is taken
    n: Annotated[int, "at least 1"] = 1  # samples per prompt
    block: Annotated[int, "at least 1"] = 1  # tokens averaged before the change point is looked for

    def measure(self, ctx: Context) -> dict[str, float | None]:
        ctx.require_tokens("k", self.k)
        rows, columns = ctx.rollouts("model", self.n), []
        for at, (q, p) in side_by_side(rows, {role: ctx.policies[role] for role in ("model", "teacher")}):
            action_N = rows.action_N[at].to(q.logp_NV.device)
            ratio_N = (p.logp(action_N) - q.logp(action_N)).abs()
            columns.append([x_N.cpu() for x_N in (ratio_N, kl(q, p), teacher_margin(q, p, self.k))])
        ratio_N, kl_N, margin_N = (torch.cat(parts) for parts in zip(*columns, strict=True))
        quarter_N = 4 * rows.step_N // rows.length_B[rows.owner_N]
        right_B = rows.reward_B > 0
        right_N = right_B[rows.owner_N]
        everywhere_N = torch.ones_like(right_N)
        series = {"log_ratio": (ratio_N, everywhere_N), "reverse_kl": (kl_N, everywhere_N)}
        series |= {"margin_correct": (margin_N, right_N), "margin_wrong": (margin_N, ~right_N)}
        found = {
            f"{name}_q{i + 1}": mean(x_N, (quarter_N == i) & where_N)
            for name, (x_N, where_N) in series.items()
            for i in range(4)
        }
        falls_B = torch.tensor([release_point(m_T, self.block) is not None for m_T in margin_N.split(rows.length_B.tolist())])
        found |= {"released_correct": mean(falls_B, right_B), "released_wrong": mean(falls_B, ~right_B)}
        return {f"signal/{name}": value for name, value in found.items()}
