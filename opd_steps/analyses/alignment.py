from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._continue import continued
from opd_steps.analyses._mean import mean, pearson
from opd_steps.evaluation.points import kl, side_by_side
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive, rng


@dataclass(frozen=True)
class Alignment(Analysis):
    """Does distillation push where success lies? At one state of each of the model's samples, its position drawn uniformly
    (arXiv 2605.10889; how states and candidates are drawn is our choice).

    Q(v): share of `branches` continuations by the model that the verifier accepts once v is said. The candidates v are the
    sampled token and the `top` likeliest of model and of teacher; q (model) and p (teacher) are renormalised over them, so that
    the three logit gradients, all to be ascended, are those of a softmax over the candidates alone:

        ideal   q_v (Q(v) - sum_u q_u Q(u))
        rkl     q_v (r_v - sum_u q_u r_u),  r = log p - log q
        fkl     p_v - q_v

    rkl, fkl                  mean cosine of each with the ideal one, over states where both exist
    *_correct, *_wrong        the same over states of correct and of wrong responses
    teacher_advantage         mean of sum_v (p_v - q_v) Q(v), over all states
    kl_correlation            Pearson, over states, of the rkl cosine with KL(q || p) over the full vocabulary
    informative               share of states where Q differs between candidates, without which there is no ideal gradient
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    BRANCHES: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = (
        "alignment/rkl",
        "alignment/rkl_correct",
        "alignment/rkl_wrong",
        "alignment/fkl",
        "alignment/fkl_correct",
        "alignment/fkl_wrong",
        "alignment/teacher_advantage",
        "alignment/kl_correlation",
        "alignment/informative",
    )

    n: Annotated[int, "at least 1"] = 1  # samples per prompt, one state each
    top: Annotated[int, "at least 1"] = 2  # candidates by model and by teacher
    branches: Annotated[int, "at least 1"] = 4  # continuations of each candidate

    def measure(self, ctx: Context) -> dict[str, float | None]:
        ctx.require_tokens("top", self.top)
        rows = ctx.rollouts("model", self.n)
        step_B = torch.tensor([int(rng(ctx.seed, "state", i).integers(length)) for i, length in enumerate(rows.length_B)])
        states = self._states(ctx, rows, step_B)
        value = self._values(ctx, rows, step_B, [ids for ids, *_ in states])
        cosines = [align(q, p, v) for (_, q, p, _), v in zip(states, value, strict=True)]
        (rkl_B, there_B), (fkl_B, fkl_there_B), (gain_B, _) = map(_column, zip(*cosines, strict=True))
        kl_B = torch.tensor([divergence for *_, divergence in states], dtype=torch.float64)
        right_B = rows.reward_B > 0
        found = {}
        for name, cosine_B, defined_B in (("rkl", rkl_B, there_B), ("fkl", fkl_B, fkl_there_B)):
            for group, where_B in (("", True), ("_correct", right_B), ("_wrong", ~right_B)):
                found[f"{name}{group}"] = mean(cosine_B, defined_B & where_B)
        found["teacher_advantage"] = mean(gain_B)
        found["kl_correlation"] = pearson(rkl_B[there_B], kl_B[there_B])
        found["informative"] = mean(torch.tensor([float(v.min() < v.max()) for v in value]))
        return {f"alignment/{name}": number for name, number in found.items()}

    def _states(self, ctx: Context, rows: Trajectory, step_B: Tensor) -> list[tuple[Tensor, Tensor, Tensor, float]]:
        """(candidate ids [K], log q [K], log p [K], KL(q || p)) at token step_B of each row."""
        at_B, found = rows.length_B.cumsum(0) - rows.length_B + step_B, []
        for at, (q, p) in side_by_side(rows, {role: ctx.policies[role] for role in ("model", "teacher")}):
            here = at_B[(at_B >= at.start) & (at_B < at.stop)]
            device = q.logp_NV.device
            pick, action = (here - at.start).to(device), rows.action_N[here].to(device)
            ids_SK = torch.cat([action[:, None], q.topk(self.top)[1][pick], p.topk(self.top)[1][pick]], 1)
            for i, ids, divergence in zip(pick, ids_SK, kl(q, p)[pick].tolist(), strict=True):
                ids = ids.unique()
                found.append((ids.cpu(), q.logp_NV[i, ids].double().cpu(), p.logp_NV[i, ids].double().cpu(), divergence))
        return found

    def _values(self, ctx: Context, rows: Trajectory, step_B: Tensor, candidates: list[Tensor]) -> list[Tensor]:
        """Q of every candidate, [K] per state. Candidates of a state share the branches' seeds, so that luck cancels."""
        contexts, prefixes, prompts, seeds = [], [], [], []
        for i, ids in enumerate(candidates):
            for token in ids:
                for branch in range(self.branches):
                    contexts.append(rows.contexts[i])
                    prefixes.append(torch.cat([rows.actions[i][: step_B[i]], token[None]]))
                    prompts.append(int(rows.prompt_B[i]))
                    seeds.append(derive(ctx.seed, "branch", i, branch))
        done = continued(ctx.policies["model"], contexts, prefixes, prompts, seeds)
        right = (ctx.pool.judge(done).reward_B > 0).double().view(-1, self.branches).mean(-1)
        return list(right.split([len(ids) for ids in candidates]))


def align(logq_K: Tensor, logp_K: Tensor, value_K: Tensor) -> tuple[float | None, float | None, float]:
    """(cosine of the reverse-KL, of the forward-KL gradient with the ideal one, teacher's advantage) over K candidates.

    There is no cosine with a gradient that is zero: None.
    """
    logq_K, logp_K = logq_K.log_softmax(0), logp_K.log_softmax(0)
    q_K, p_K = logq_K.exp(), logp_K.exp()
    centred = lambda x_K: q_K * (x_K - q_K @ x_K)
    ideal_K = centred(value_K) if value_K.min() < value_K.max() else torch.zeros_like(q_K)
    return (
        _cosine(ideal_K, centred(logp_K - logq_K)),
        _cosine(ideal_K, p_K - q_K),
        float((p_K - q_K) @ value_K),
    )


def _cosine(a: Tensor, b: Tensor) -> float | None:
    size = float(a.norm() * b.norm())
    return None if size <= 1e-20 else float(a @ b) / size


def _column(values: Sequence[float | None]) -> tuple[Tensor, Tensor]:
    """(values, 0 where there is none; where there is one), each [B]."""
    there = torch.tensor([value is not None for value in values])
    return torch.tensor([value or 0.0 for value in values], dtype=torch.float64), there
