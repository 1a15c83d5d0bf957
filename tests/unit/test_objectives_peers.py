"""Estimators that other libraries run, against independent formulas of theirs and exact expectations. fp64."""

from __future__ import annotations

import pytest
import torch

from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.objectives.estimators.clamped import Clamped
from opd_steps.objectives.estimators.exact import Exact
from opd_steps.objectives.estimators.k2 import K2
from opd_steps.objectives.estimators.k3 import K3
from opd_steps.objectives.estimators.k3_clamped import K3Clamped
from opd_steps.objectives.estimators.k3_plus import K3Plus
from opd_steps.objectives.estimators.pg import PolicyGradient
from opd_steps.objectives.estimators.state_advantage import StateAdvantage
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.jsd import JSD
from opd_steps.objectives.signals.mix import Mix
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.supports.sampled import Sampled
from opd_steps.objectives.supports.student_topk import StudentTopk
from opd_steps.objectives.supports.teacher_topk import TeacherTopk
from opd_steps.objectives.supports.zero_outside_topk import ZeroOutsideTopk
from tests.unit.objectives_toys import SETS, V, close, draw, gradient


def per_action(z, p, estimator, support=None, signal=None) -> torch.Tensor:
    """The gradient for each sampled action of one state, [V, V]."""
    many = Categorical(p.logp_NV.expand(V, -1))
    return gradient(z.expand(V, -1), many, estimator, support or Sampled(), signal, None, torch.arange(V))


def losses(z, p, estimator, support, signal=None):
    evidence = Evidence(torch.arange(len(z)) % V, teacher=p)
    return estimator.loss(Categorical.from_logits(z), evidence, support, signal or ReverseKL(), None)


def test_k3_plus_has_the_value_of_k3_and_the_gradient_of_k2():
    z, p = draw(0, n=V)
    close(losses(z, p, K3Plus(), Sampled())[0], losses(z, p, K3(), Sampled())[0])
    z, p = draw(0)
    close(per_action(z, p, K3Plus()), per_action(z, p, K2()))
    close(per_action(z, p, K3Plus()), per_action(z, p, PolicyGradient()))


def test_clamped_k3_is_k3_below_the_cap_and_silent_above():
    z, p = draw(1, scale=3.0)
    free, cut = per_action(z, p, K3()), per_action(z, p, K3Clamped(2.0))
    loss, stats = losses(z.expand(V, -1), Categorical(p.logp_NV.expand(V, -1)), K3Clamped(2.0), Sampled())
    above = stats["clamped"] == 1
    assert 0 < above.sum() < V and (cut[above] == 0).all() and loss.max() == 2
    close(cut[~above], free[~above])
    q = z[0].softmax(-1)
    assert (q @ cut - (q - p.logp_NV[0].exp())).abs().max() > 0.01  # no longer forward KL


@pytest.mark.parametrize("signal", [ForwardKL(), ReverseKL()], ids=repr)
def test_clamped_sum_is_silent_where_it_is_negative(signal):
    z, p = draw(2, n=300)
    p = Categorical.from_logits(0.2 * p.logp_NV)  # a broad teacher: the student often holds more of its top-k
    q = Categorical.from_logits(z)
    ids = p.logp_NV.topk(4).indices
    logq, logp = q.gather(ids), p.gather(ids)
    own, other = (logp, logq) if isinstance(signal, ForwardKL) else (logq, logp)
    value = (own.exp() * (own - other)).sum(-1)
    loss, stats = losses(z, p, Clamped(), TeacherTopk(4), signal)
    close(loss, value.clamp(min=0))
    silent = stats["clamped"] == 1
    assert torch.equal(silent, value < 0) and 0 < silent.sum() < 300
    raw, cut = (gradient(z, p, e, TeacherTopk(4), signal) for e in (Exact(), Clamped()))
    assert (cut[silent] == 0).all() and (raw[silent].norm(dim=-1) > 1e-3).all()
    close(cut[~silent], raw[~silent])


@pytest.mark.parametrize("support", [Full(), TeacherTopk(4, "renormalise"), TeacherTopk(4, "tail")], ids=repr)
@pytest.mark.parametrize("signal", [ForwardKL(), ReverseKL(), JSD()], ids=repr)
def test_nothing_is_clamped_where_the_sum_is_a_divergence(support, signal):
    z, p = draw(3, n=20)
    assert losses(z, p, Clamped(), support, signal)[1]["clamped"].sum() == 0
    close(gradient(z, p, Clamped(), support, signal), gradient(z, p, Exact(), support, signal))


@pytest.mark.parametrize("support", SETS, ids=repr)
def test_an_advantage_of_the_state_alone_has_no_expected_gradient(support):
    z, p = draw(4)
    grads = per_action(z, p, StateAdvantage(), support, ReverseKL())
    close(z[0].softmax(-1) @ grads, torch.zeros(V, dtype=torch.float64))
    assert grads.abs().max() > 0.01


def test_an_advantage_that_is_not_detached_has_the_gradient_of_the_divergence():
    z, p = draw(4)
    grads = per_action(z, p, StateAdvantage(detached=False), Full(), ReverseKL())
    logits = z[:1].clone().requires_grad_()
    q = Categorical.from_logits(logits)
    (exact,) = torch.autograd.grad((q.logp_NV.exp() * (q.logp_NV - p.logp_NV[:1])).sum(), logits)
    close(z[0].softmax(-1) @ grads, exact[0])


def test_state_advantage_is_the_weighted_log_ratio_of_the_set():
    z, p = draw(5, n=7)
    q = Categorical.from_logits(z)
    logq, ids = q.topk(4)
    value = (logq.softmax(-1) * (logq - p.gather(ids))).sum(-1)
    loss, stats = losses(z, p, StateAdvantage(), StudentTopk(4))
    close(stats["advantage"], -value)
    close(loss, value * q.logp(torch.arange(7)))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_zero_outside_topk_is_the_sum_with_the_correction(weight):
    """Mixed KL as that library writes it: the top-k sum of both directions, the reverse part corrected by the rest's entropy and mass."""
    z, p = draw(6, n=9)
    q = Categorical.from_logits(z)
    logp, ids = p.topk(5)
    logp, logq = logp.log_softmax(-1), q.gather(ids)
    entropy_rest = (q.logp_NV.exp() * q.logp_NV).sum(-1) - (logq.exp() * logq).sum(-1)
    correction = entropy_rest + 100 * (1 - logq.exp().sum(-1))
    reverse, forward = (logq.exp() * (logq - logp)).sum(-1) + correction, (logp.exp() * (logp - logq)).sum(-1)
    loss, _ = losses(z, p, Exact(), ZeroOutsideTopk(5), Mix(weight))
    close(loss, weight * reverse + (1 - weight) * forward)


def test_zero_outside_topk_of_everything_is_the_full_vocabulary_and_a_recorded_teacher_will_do():
    z, p = draw(7, n=4)
    close(gradient(z, p, Exact(), ZeroOutsideTopk(V), ReverseKL()), gradient(z, p, Exact(), Full(), ReverseKL()))
    logp, ids = p.topk(5)
    recorded = Recorded(p.logp(torch.zeros(4, dtype=torch.long)), ids, logp)
    live, stored = (gradient(z, t, Exact(), ZeroOutsideTopk(5), ReverseKL()) for t in (p, recorded))
    assert torch.equal(live, stored)
    with pytest.raises(ValueError, match="k = 13"):
        ZeroOutsideTopk(13).select(Categorical.from_logits(z), p)


def test_zero_outside_topk_moves_a_student_that_agrees_with_its_teacher():
    z, _ = draw(8, n=3)
    p = Categorical.from_logits(z)
    outside = torch.ones_like(z).scatter(-1, z.topk(4).indices, 0.0)
    grad = gradient(z, p, Exact(), ZeroOutsideTopk(4), ReverseKL())
    assert grad.norm() > 1 and ((grad * outside).sum(-1) > 0.5).all()  # down with the whole tail
