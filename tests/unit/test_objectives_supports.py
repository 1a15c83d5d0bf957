"""Supports, signals' bounds and conventions, recorded teachers, Gaussian steps."""

from __future__ import annotations

import math

import pytest
import torch

from opd_steps.nouns.dist import Categorical, DiagGaussian, Recorded
from opd_steps.objectives.baselines.none import NoBaseline
from opd_steps.objectives.estimators.exact import Exact
from opd_steps.objectives.estimators.pg import PolicyGradient
from opd_steps.objectives.estimators.stop_grad import StopGrad
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.jsd import JSD
from opd_steps.objectives.signals.log_ratio import LogRatio
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.signals.skew import Skew
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.supports.intersection import Intersection
from opd_steps.objectives.supports.sampled import Sampled
from opd_steps.objectives.supports.student_topk import StudentTopk
from opd_steps.objectives.supports.teacher_topk import TeacherTopk
from opd_steps.objectives.supports.union import Union
from opd_steps.objectives.weights.gap_mask import GapMask
from tests.unit.objectives_toys import SETS, V, close, draw, gradient


def value(signal, z, p, support=None) -> torch.Tensor:
    on = (support or Full()).select(Categorical.from_logits(z), p)
    return on.sum(signal.term(on.logq_NK, on.logp_NK))


def disjoint(dtype=torch.float64) -> tuple[torch.Tensor, Categorical]:
    """Student and teacher whose top 2 have nothing in common."""
    return torch.tensor([[9.0, 8, 0, 0, 0, 0]], dtype=dtype), Categorical.from_logits(
        torch.tensor([[0.0, 0, 0, 0, 8, 9]], dtype=dtype)
    )


def test_sets_hold_the_right_tokens():
    z, p = draw(0, n=20)
    q = Categorical.from_logits(z)
    for n in range(20):
        student, teacher = set(z[n].topk(5).indices.tolist()), set(p.logp_NV[n].topk(5).indices.tolist())
        want = {StudentTopk: student, TeacherTopk: teacher, Intersection: student & teacher, Union: student | teacher}
        for kind, ids in want.items():
            on = kind(5).select(q, p)
            assert on.valid_NK[n].sum() == len(ids)
            close(on.logq_NK[n][on.valid_NK[n]].sort().values, q.logp_NV[n][sorted(ids)].sort().values)
            close(on.logp_NK[n][on.valid_NK[n]].sort().values, p.logp_NV[n][sorted(ids)].sort().values)


@pytest.mark.parametrize("support", SETS[1:], ids=repr)
def test_weights_and_conditionals_sum_to_one(support):
    z, p = draw(1, n=8)
    q = Categorical.from_logits(z)
    for norm in ("raw", "renormalise", "tail"):
        on = type(support)(8, norm).select(q, p)
        close(on.weight_NK.sum(-1), torch.ones(8, dtype=torch.float64))
        assert not on.weight_NK.requires_grad
        if norm != "raw":
            close(on.sum(on.logq_NK.exp()), torch.ones(8, dtype=torch.float64))
            close(on.sum(on.logp_NK.exp()), torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize("support", SETS[1:], ids=repr)
@pytest.mark.parametrize("signal", [ReverseKL(), ForwardKL(), JSD(0.5)], ids=repr)
def test_tail_bucket_bounds_the_divergence_from_below(support, signal):
    z, p = draw(2, n=50)
    assert (value(signal, z, p, type(support)(8, "tail")) <= value(signal, z, p) + 1e-12).all()


@pytest.mark.parametrize("support", [StudentTopk, TeacherTopk, Intersection, Union])
def test_a_support_of_everything_is_the_full_one(support):
    z, p = draw(3, n=4)
    for norm in ("raw", "renormalise", "tail"):
        for estimator in (Exact(), StopGrad()):
            grad = gradient(z, p, estimator, support(V, norm), ReverseKL())
            close(grad, gradient(z, p, estimator, Full(), ReverseKL()), 1e-6)


@pytest.mark.parametrize("support", [StudentTopk, TeacherTopk, Intersection, Union])
def test_k_beyond_the_vocabulary_is_refused(support):
    z, p = draw(3)
    with pytest.raises(ValueError, match="k = 13 tokens was asked for, the vocabulary has 12"):
        support(V + 1).select(Categorical.from_logits(z), p)


@pytest.mark.parametrize("norm", ["raw", "renormalise", "tail"])
@pytest.mark.parametrize("signal", [ReverseKL(), ForwardKL(), JSD(0.5), Skew(0.1)], ids=repr)
@pytest.mark.parametrize("estimator", [Exact(), StopGrad(), PolicyGradient()], ids=lambda e: type(e).__name__)
def test_empty_intersection_contributes_nothing(norm, signal, estimator):
    z, p = disjoint()
    support = Intersection(2, norm)
    both = torch.cat([z, z]), Categorical(torch.cat([p.logp_NV, Categorical.from_logits(z + 0.1 * z.square()).logp_NV]))
    grad = gradient(*both, estimator, support, signal)
    assert (grad[0] == 0).all() and grad.isfinite().all() and grad[1].abs().sum() > 0
    assert value(signal, z, p, support) == 0


@pytest.mark.parametrize("support", [StudentTopk, TeacherTopk, Intersection, Union])
@pytest.mark.parametrize("norm", ["raw", "renormalise", "tail"])
@pytest.mark.parametrize("signal", [ReverseKL(), ForwardKL(), JSD(0.5), Skew(0.1, "reverse")], ids=repr)
def test_extreme_logits_stay_finite_in_fp32(support, norm, signal):
    z = torch.tensor([[60.0, 0, -60, 1], [0, 200, 0, 0], [0, 0, 0, 0]])
    p = Categorical.from_logits(torch.tensor([[-60.0, 0, 60, 1], [0, 200, 0, 0], [300, 0, 0, 0]]))
    for k in (1, 3, 4):
        for estimator in (Exact(), StopGrad(), PolicyGradient()):
            assert gradient(z, p, estimator, support(k, norm), signal).isfinite().all()


def test_jsd_conventions():
    z, p = draw(4, n=5)
    forward, reverse = value(ForwardKL(), z, p), value(ReverseKL(), z, p)
    close(value(JSD(0.0), z, p), forward)
    close(value(JSD(1.0), z, p), reverse)
    close(value(JSD(0.3), z, p), value(JSD(0.7), p.logp_NV, Categorical.from_logits(z)))
    close(value(JSD(1e-7), z, p) / 1e-7, forward, 1e-4)  # the ends are switches: the formula itself tends to 0
    close(value(JSD(1 - 1e-7), z, p) / 1e-7, reverse, 1e-4)
    q_V, p_V = z.softmax(-1), p.logp_NV.exp()
    m_V = 0.3 * p_V + 0.7 * q_V
    direct = 0.3 * (p_V * (p_V / m_V).log()).sum(-1) + 0.7 * (q_V * (q_V / m_V).log()).sum(-1)
    close(value(JSD(0.3), z, p), direct)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_skew_is_bounded_and_ends_at_the_plain_divergences(direction):
    z, p = disjoint()
    z, p = z * 30, Categorical.from_logits(p.logp_NV * 30)
    for alpha in (0.01, 0.1, 0.5):
        assert 0 < value(Skew(alpha, direction), z, p) <= -math.log(alpha) + 1e-12
    z, p = draw(5)
    close(value(Skew(0.0, direction), z, p), value(ForwardKL() if direction == "forward" else ReverseKL(), z, p))


def test_recorded_teacher_equals_the_live_one_for_what_it_stores():
    z, p = draw(6, n=7)
    action = torch.arange(7)
    logp, ids = p.topk(4)
    recorded = Recorded(p.logp(action), ids, logp)
    for support, estimator in ((Sampled(), PolicyGradient()), (TeacherTopk(4), Exact()), (TeacherTopk(3, "tail"), StopGrad())):
        live, stored = (gradient(z, t, estimator, support, ReverseKL(), action_N=action) for t in (p, recorded))
        assert torch.equal(live, stored)
    live, stored = (gradient(z, t, Exact(), Intersection(4, "renormalise"), action_N=action) for t in (p, recorded))
    assert torch.equal(live, stored)
    live, stored = (GapMask(1.0).weight_N(Categorical.from_logits(z), Evidence(action, teacher=t)) for t in (p, recorded))
    assert torch.equal(live, stored) and 0 < live.sum() < 7
    with pytest.raises(ValueError, match="top 4, this method asks for 5"):
        gradient(z, recorded, Exact(), TeacherTopk(5))


def test_evidence_chunks():
    z, p = draw(7, n=6)
    evidence = Evidence(
        torch.arange(6),
        p,
        torch.zeros(6),
        step_N=torch.arange(6),
        owner_N=torch.zeros(6),
        others={"reference": Recorded(p.logp(torch.arange(6)))},
        columns={"outcome": torch.arange(6)},
    )
    part = evidence.chunk(2, 5)
    assert part.action_N.tolist() == [2, 3, 4] and len(part.teacher) == len(part.reference) == len(part.sampler_logp_N) == 3
    assert part.outcome_N is None and part.columns["outcome"].tolist() == [2, 3, 4]
    grad = gradient(z[2:5], part.teacher, PolicyGradient(), Sampled(), action_N=part.action_N)
    close(grad, gradient(z, p, PolicyGradient(), Sampled(), action_N=torch.arange(6))[2:5], 0.0)


def test_gaussian_steps():
    make = lambda seed: torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mean, std, action = make(0).requires_grad_(), make(1).exp(), make(2)
    q, p = DiagGaussian(mean, std), DiagGaussian(make(3), make(4).exp())
    evidence, none = Evidence(action, teacher=p), NoBaseline()
    for signal, kl in ((LogRatio(), q.kl(p)), (ReverseKL(), q.kl(p)), (ForwardKL(), p.kl(q))):
        loss, stats = Exact().loss(q, evidence, Full(), signal, none)
        close(loss, kl)
        close(stats["log_ratio"], p.logp(action) - q.logp(action).detach())
    for signal in (JSD(), Skew()):
        with pytest.raises(ValueError, match="no closed form"):
            Exact().loss(q, evidence, Full(), signal, none)
    loss, stats = PolicyGradient().loss(q, evidence, Sampled(), LogRatio(), none)
    advantage = (p.logp(action) - q.logp(action)).detach()
    close(stats["advantage"], advantage)
    close(torch.autograd.grad(loss.sum(), mean)[0], -advantage[:, None] * ((action - mean) / std.square()).detach())
    unit = DiagGaussian(mean.detach(), torch.ones(1)), DiagGaussian(p.mean_ND, torch.ones(1))
    close(unit[0].kl(unit[1]), 0.5 * (unit[0].mean_ND - unit[1].mean_ND).square().sum(-1))


def test_gaussian_policy_gradient_is_unbiased():
    """Gauss-Hermite nodes make the expectation over actions exact."""
    of = lambda *values: torch.tensor(values, dtype=torch.float64)[:, None]
    nodes, weights = of(-math.sqrt(3), 0, math.sqrt(3)), of(1 / 6, 2 / 3, 1 / 6)[:, 0]
    mean, std, p = of(0.4).requires_grad_(), of(0.5), DiagGaussian(of(-0.2, -0.2, -0.2), of(0.7))
    evidence = Evidence((mean + std * nodes).detach(), teacher=p)
    loss, _ = PolicyGradient().loss(DiagGaussian(mean.expand(3, 1), std), evidence, Sampled(), LogRatio(), NoBaseline())
    (sampled,) = torch.autograd.grad((weights * loss).sum(), mean)
    (exact,) = torch.autograd.grad(DiagGaussian(mean, std).kl(p.chunk(0, 1)).sum(), mean)
    close(sampled, exact)
