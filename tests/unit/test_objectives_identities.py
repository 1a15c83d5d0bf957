"""Expected gradients, exactly: the expectation over the sampled token is a sum over a small vocabulary, in fp64.

Facts 1 to 5 of the list in test_objectives_tabular.
"""

from __future__ import annotations

import pytest
import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.baselines.neg_kl import NegKL
from opd_steps.objectives.baselines.none import NoBaseline
from opd_steps.objectives.baselines.optimal import Optimal
from opd_steps.objectives.estimators.exact import Exact
from opd_steps.objectives.estimators.k1 import K1
from opd_steps.objectives.estimators.k2 import K2
from opd_steps.objectives.estimators.k3 import K3
from opd_steps.objectives.estimators.mle import MLE
from opd_steps.objectives.estimators.pg import PolicyGradient
from opd_steps.objectives.estimators.stop_grad import StopGrad
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.log_ratio import LogRatio
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.supports.sampled import Sampled
from opd_steps.objectives.supports.student_topk import StudentTopk
from tests.unit.objectives_toys import SETS, SIGNALS, V, close, draw, gradient


def per_sample(logits_V, teacher, estimator, signal=None, baseline=None) -> torch.Tensor:
    """The gradient for each sampled token: row v is that of action v, [V, V]."""
    many = Categorical(teacher.logp_NV.expand(V, -1))
    return gradient(logits_V.expand(V, -1), many, estimator, Sampled(), signal, baseline, torch.arange(V))


def expected(logits_V, teacher, estimator, signal=None, baseline=None) -> torch.Tensor:
    return logits_V.softmax(-1) @ per_sample(logits_V, teacher, estimator, signal, baseline)


def total_variance(logits_V, grads_VV) -> float:
    q = logits_V.softmax(-1)
    return float(q @ grads_VV.square().sum(-1) - (q @ grads_VV).square().sum())


@pytest.mark.parametrize("seed", range(5))
def test_exact_gradients_are_the_textbook_ones(seed):
    z, p = draw(seed)
    q, logq = z.softmax(-1), z.log_softmax(-1)
    kl = (q * (logq - p.logp_NV)).sum()
    close(gradient(z, p, Exact(), Full(), ReverseKL()), q * (logq - p.logp_NV - kl))
    close(gradient(z, p, Exact(), Full(), ForwardKL()), q - p.logp_NV.exp())


@pytest.mark.parametrize("signal", SIGNALS, ids=repr)
@pytest.mark.parametrize("baseline", [NoBaseline(), NegKL(), NegKL("student_topk", 4), Optimal()], ids=repr)
def test_policy_gradient_of_every_signal_is_the_divergence_gradient(signal, baseline):
    for seed in range(3):
        z, p = draw(seed)
        close(expected(z[0], p, PolicyGradient(), signal, baseline), gradient(z, p, Exact(), Full(), signal)[0])


@pytest.mark.parametrize("signal", SIGNALS, ids=repr)
def test_full_support_estimators_agree(signal):
    z, p = draw(3, n=4)
    exact = gradient(z, p, Exact(), Full(), signal)
    close(gradient(z, p, StopGrad(), Full(), signal), exact)
    close(gradient(z, p, PolicyGradient(), Full(), signal, Optimal()), exact)


@pytest.mark.parametrize("signal", SIGNALS, ids=repr)
def test_reward_is_minus_the_derivative_of_term_up_to_a_constant(signal):
    z, p = draw(4, n=6)
    q = z.softmax(-1).requires_grad_()
    (slope,) = torch.autograd.grad(signal.term(q.log(), p.logp_NV).sum(), q)
    gap = signal.reward(q.detach().log(), p.logp_NV) + slope
    close(gap, gap.mean().expand_as(gap), 1e-9)


def test_k_estimators_back_propagated():
    z, p = draw(5)
    reverse, forward = (gradient(z, p, Exact(), Full(), s)[0] for s in (ReverseKL(), ForwardKL()))
    close(expected(z[0], p, K1()), torch.zeros(V, dtype=torch.float64))
    assert per_sample(z[0], p, K1()).abs().max() > 0.1  # pure noise, not nothing
    close(expected(z[0], p, K2()), reverse)
    close(expected(z[0], p, K3()), forward)
    close(per_sample(z[0], p, K2()), per_sample(z[0], p, PolicyGradient()))


def test_k_values_estimate_the_reverse_kl():
    z, p = draw(6)
    q = Categorical.from_logits(z.expand(V, -1))
    evidence = Evidence(torch.arange(V), teacher=Categorical(p.logp_NV.expand(V, -1)))
    weight = z[0].softmax(-1)
    for estimator in (K1(), K3()):
        value, _ = estimator.loss(q, evidence, Sampled(), LogRatio(), NoBaseline())
        close(weight @ value, Exact().loss(q, evidence, Full(), ReverseKL(), None)[0][0])


def test_mle_is_cross_entropy():
    z, _ = draw(7, n=4)
    action = torch.tensor([3, 0, 11, 3])
    grad = gradient(z, None, MLE(), Sampled(), action_N=action)
    close(grad, z.softmax(-1) - torch.nn.functional.one_hot(action, V))


NORMED = [Full(), *(type(s)(s.k, norm) for s in SETS[1:] for norm in ("raw", "renormalise", "tail"))]


@pytest.mark.parametrize("support", NORMED, ids=repr)
@pytest.mark.parametrize("estimator", [Exact(), StopGrad(), PolicyGradient()], ids=lambda e: type(e).__name__)
def test_gradient_at_agreement(support, estimator):
    """At q = p all are 0, except the raw set with the exact estimator: it pushes mass out of the set."""
    z, _ = draw(8, n=3)
    grad = gradient(z, Categorical.from_logits(z), estimator, support, ReverseKL())
    if isinstance(estimator, Exact) and not isinstance(support, Full) and support.norm == "raw":
        assert grad.norm() > 0.01
    else:
        close(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("support", SETS[1:], ids=repr)
def test_stop_grad_identities(support):
    z, p = draw(9, n=5)
    kind = type(support)
    for signal in (ReverseKL(), LogRatio()):
        normed = kind(5, "renormalise")
        close(gradient(z, p, Exact(), normed, signal), gradient(z, p, StopGrad(), normed, signal), 1e-14)
        x = z.clone().requires_grad_()
        on = support.select(Categorical.from_logits(x), p)
        (of_mass,) = torch.autograd.grad(on.sum(on.logq_NK.exp()).sum(), x)
        raw = gradient(z, p, Exact(), support, signal)
        close(raw, gradient(z, p, StopGrad(), support, signal) + of_mass)


def test_raw_top_k_pushes_mildly_preferred_tokens_down():
    """Failure 2 of arXiv 2605.11182: with 1 < p/q < e the derivative of the raw sum is positive, that of the others is not."""
    logq, logp = torch.tensor([-2.0]), torch.tensor([-1.5])
    q = logq.exp().requires_grad_()
    (slope,) = torch.autograd.grad(ReverseKL().term(q.log(), logp), q)
    assert slope > 0 and ReverseKL().reward(logq, logp) > 0


def test_policy_gradient_over_a_set_is_stop_grad_divided_by_the_mass():
    z, p = draw(10)
    support = StudentTopk(4)
    mass = z.softmax(-1).topk(4).values.sum()
    close(gradient(z, p, PolicyGradient(), support) * mass, gradient(z, p, StopGrad(), support))


def test_optimal_baseline_never_loses_and_the_kl_baseline_wins_in_the_median():
    ratios = {"optimal": [], "neg_kl": [], "topk": []}
    for seed in range(150):
        z, p = draw(seed, scale=1.0)
        vanilla = total_variance(z[0], per_sample(z[0], p, PolicyGradient()))
        for name, b in (("optimal", Optimal()), ("neg_kl", NegKL()), ("topk", NegKL("student_topk", 4))):
            ratios[name].append(total_variance(z[0], per_sample(z[0], p, PolicyGradient(), baseline=b)) / vanilla)
    best, kl, topk = (torch.tensor(ratios[n]) for n in ("optimal", "neg_kl", "topk"))
    assert (best <= 1 + 1e-12).all() and (best <= kl + 1e-12).all()
    assert best.median() < kl.median() < 1 and topk.median() < 1
    assert (kl > 1).any()  # not for every state


def test_baseline_values():
    z, p = draw(11, n=3)
    q = Categorical.from_logits(z)
    kl = (q.logp_NV.exp() * (q.logp_NV - p.logp_NV)).sum(-1)
    close(NegKL().value_N(q, p, LogRatio()), -kl)
    close(NegKL("student_topk", V).value_N(q, p, LogRatio()), -kl)
    close(NegKL().value_N(q, p, ForwardKL()), torch.ones(3, dtype=torch.float64))
    sharp = Categorical.from_logits(torch.tensor([[500.0, 0, 0]]))
    assert Optimal().value_N(sharp, sharp, LogRatio()).isfinite().all()
