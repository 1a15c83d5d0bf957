"""Figures behind the page's remarks: one function each, from the production functions."""

from __future__ import annotations

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.aggregate import weights_N
from opd_steps.objectives.evidence import Evidence
from tests.estimator_table.measure import CORRELATION, ZERO, K, Pairs, moments, norm, normal, relative_gap, stream
from tests.estimator_table.rows import on
from tests.estimator_table.verdict import median, number, share


def k3_clamp(pairs: Pairs) -> dict[str, str]:
    """Where verl's clamp of k3 acts, what it takes from the forward KL, and how many sampled tokens show it."""
    found = moments(stream(estimator="k3_clamped"), pairs)
    gap_P = relative_gap(found.mean_PV, pairs.fkl_PV)
    hit_P = gap_P > ZERO
    return {
        "k3_hit": share(hit_P),
        "k3_gap": f"{median(gap_P[hit_P]):.0%}",
        "k3_tokens": f"{median(found.stats['clamped'][hit_P]):.1%}",
    }


def clamped_topk(each: int = 500) -> dict[str, str]:
    """verl's clamp at 0: share of many states that get no gradient at all, far from agreement and near it."""
    pairs, term = Pairs.draw(each=each), stream(estimator="clamped", signal="fkl", support=on("teacher_topk"))
    far, near = (float((moments(term, p).stats["clamped"] > 0.5).double().mean()) for p in (pairs, pairs.near()))
    return {"clamp_far": f"{far:.1%}", "clamp_near": f"{near:.1%}", "clamp_states": str(len(pairs.q_PV))}


def drained(pairs: Pairs) -> dict[str, str]:
    """Of the pairs whose teacher has more mass on the student's top-k than the student: where a step lowers it further."""
    ids_PK = pairs.logits_PV.topk(K).indices
    inside_PV = torch.zeros_like(pairs.q_PV).scatter(-1, ids_PK, 1.0)
    mass_P, teacher_P = (pairs.q_PV * inside_PV).sum(-1), (pairs.teacher_PV.exp() * inside_PV).sum(-1)
    slope_PV = pairs.q_PV * (inside_PV - mass_P[:, None])  # d mass / d logits
    low_P = teacher_P > mass_P
    grows = lambda mean_PV: (-(mean_PV * slope_PV).sum(-1))[low_P] > 0
    raw = moments(stream(estimator="exact", signal="rkl", support=on("student_topk")), pairs).mean_PV
    stopped = moments(stream(estimator="stop_grad", signal="rkl", support=on("student_topk")), pairs).mean_PV
    return {
        "low": str(int(low_P.sum())),
        "drain_raw": str(int((~grows(raw)).sum())),
        "drain_sg": str(int((~grows(stopped)).sum())),
        "drain_full": str(int((~grows(pairs.rkl_PV)).sum())),
    }


def outside_teacher_topk(pairs: Pairs) -> dict[str, str]:
    """Share of the reverse-KL gradient (squared norm) outside the teacher's top-k; what renormalising there leaves of it."""
    outside_PV = torch.ones_like(pairs.q_PV).scatter(-1, pairs.teacher_PV.topk(K).indices, 0.0)
    found = moments(stream(estimator="exact", signal="rkl", support=on("teacher_topk", "renormalise")), pairs).mean_PV
    share_P = (pairs.rkl_PV * outside_PV).square().sum(-1) / pairs.rkl_PV.square().sum(-1)
    return {
        "outside": f"{median(share_P):.0%}",
        "outside_max": f"{float(share_P.max()):.0%}",
        "outside_left": number(float((found * outside_PV).abs().max())),
        "student_outside": f"{median((pairs.q_PV * outside_PV).sum(-1)):.0%}",
    }


def size_of_cut_teacher(pairs: Pairs) -> dict[str, str]:
    found = moments(stream(estimator="exact", signal="rkl", support={"name": "zero_outside_topk", "k": K}), pairs)
    return {"cut_size": f"{median(norm(found.mean_PV) / norm(pairs.rkl_PV)):.0f}"}


def zscored(pairs: Pairs) -> dict[str, str]:
    """1 / the standard deviation of the log-ratio over all pairs and the students' actions: what z-scoring multiplies by."""

    def scale(p: Pairs) -> str:
        gap_PV = p.teacher_PV - p.logits_PV.log_softmax(-1)
        mean = (p.q_PV * gap_PV).sum(-1).mean()
        return number(float((p.q_PV * (gap_PV - mean).square()).sum(-1).mean().rsqrt()))

    return {"z_far": scale(pairs), "z_near": scale(pairs.near())}


def reference_count(generated: int = 32, references: tuple[int, ...] = (8, 32, 128)) -> list[tuple[int, str]]:
    """Scale of the loss of `generated` tokens when it is divided by the count of another text's tokens."""
    scale = lambda tokens: float(weights_N("token_mean", torch.tensor([generated]), 1, tokens).sum())
    return [(r, f"{scale(r) / scale(generated):g}") for r in references]


def rounded(v: int, scale: float, count: int = 16) -> tuple[str, str]:
    """Median relative error of JSD's value and of its logit gradient when the logits went through bf16. (value, gradient)"""
    a, b = (scale * normal(count, v, name=f"{n} {v} {scale}") for n in ("rounded student", "rounded teacher"))
    teacher = CORRELATION * a + (1 - CORRELATION**2) ** 0.5 * b
    term = stream(estimator="exact", signal="jsd", support="full")

    def solve(cast) -> tuple[Tensor, Tensor]:
        z_PV = cast(a).requires_grad_()
        evidence = Evidence(torch.zeros(count, dtype=torch.long), teacher=Categorical.from_logits(cast(teacher)))
        loss_P, _ = term.loss(Categorical.from_logits(z_PV), evidence)
        return loss_P.detach(), torch.autograd.grad(loss_P.sum(), z_PV)[0]

    (loss_P, grad_PV), (rough_P, rough_PV) = solve(lambda x: x.clone()), solve(lambda x: x.bfloat16().to(x.dtype))
    return f"{median((rough_P - loss_P).abs() / loss_P):.2%}", f"{median(relative_gap(rough_PV, grad_PV)):.1%}"
