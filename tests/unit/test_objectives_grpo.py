"""Outcome advantages, ratios and clips, aggregation: GRPO, Dr.GRPO and DAPO as switches of the same code."""

from __future__ import annotations

import math

import pytest
import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.aggregate import weights_N
from opd_steps.objectives.baselines.none import NoBaseline
from opd_steps.objectives.estimators.pg import PolicyGradient
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.outcome import group_advantage, kl_k3, silent_groups, soft_overlong
from opd_steps.objectives.signals.log_ratio import LogRatio
from opd_steps.objectives.signals.outcome import Outcome
from opd_steps.objectives.supports.sampled import Sampled
from tests.unit.objectives_toys import close, draw

NAMES = ("token_mean", "seq_mean", "window_mean", "seq_sum")


def surrogate(z, action_N, outcome_N, sampler_logp_N, **options):
    """(loss_N, stats, gradient on logits) of the outcome signal."""
    x = z.clone().requires_grad_()
    evidence = Evidence(action_N, sampler_logp_N=sampler_logp_N, outcome_N=outcome_N)
    loss_N, stats = PolicyGradient(**options).loss(Categorical.from_logits(x), evidence, Sampled(), Outcome(), NoBaseline())
    return loss_N.detach(), stats, torch.autograd.grad(loss_N.sum(), x)[0]


def at_ratio(rho, outcome, **options):
    """One decision whose ratio to the sampler is `rho`: (loss, stats, gradient)."""
    z, _ = draw(1)
    action = torch.tensor([2])
    sampler = Categorical.from_logits(z).logp(action) - math.log(rho)
    return surrogate(z, action, torch.tensor([outcome], dtype=torch.float64), sampler, **options)


CLIP = {"ratio": "sampler", "clip_low": 0.2, "clip_high": 0.28}


def test_a_gradient_at_ratio_one_is_minus_advantage_times_score():
    z, _ = draw(0, n=6)
    action, outcome = torch.arange(6), torch.linspace(-1, 1, 6, dtype=torch.float64)
    score = torch.nn.functional.one_hot(action, 12) - z.softmax(-1)
    sampler = Categorical.from_logits(z).logp(action)
    cap, mask = {"ratio": "sampler", "is_cap": 2.0}, {"ratio": "sampler", "mask_low": 0.5, "mask_high": 2.0}
    for options in ({}, {"ratio": "sampler"}, CLIP, cap, mask):
        _, stats, grad = surrogate(z, action, outcome, sampler, **options)
        close(grad, -outcome[:, None] * score)
        close(stats["advantage"], outcome)
        assert "log_ratio" not in stats
        assert not options or (stats["ratio"].sub(1).abs().max() < 1e-12 and stats["clipped"].sum() == 0)


def test_b_equal_rewards_are_silent():
    for kind in ("group_mean", "leave_one_out"):
        for std in (True, False):
            reward = torch.tensor([0.1] * 3 + [1.0, 0.0, 0.3])
            advantage = group_advantage(reward, torch.tensor([7, 7, 7, 3, 3, 3]), kind, std)
            assert (advantage[:3] == 0).all() and (advantage[3:] != 0).all()
    z, _ = draw(0, n=6)
    sampler = Categorical.from_logits(z).logp(torch.arange(6))
    assert (surrogate(z, torch.arange(6), torch.zeros(6), sampler, **CLIP)[2] == 0).all()


def test_c_group_advantages():
    reward, group = torch.tensor([1.0, 0, 0, 1, 5, 2], dtype=torch.float64), torch.tensor([0, 1, 0, 0, 9, 1])
    mean = torch.tensor([1 / 3, -1, -2 / 3, 1 / 3, 5, 1], dtype=torch.float64)
    close(group_advantage(reward, group, "group_mean", False), mean)
    close(group_advantage(reward, group, "leave_one_out", False), torch.tensor([0.5, -2, -1, 0.5, 5, 2], dtype=torch.float64))
    std = torch.tensor([3**-0.5, 2**0.5, 3**-0.5, 3**-0.5, 1, 2**0.5], dtype=torch.float64)
    close(group_advantage(reward, group, "group_mean", True), mean / (std + 1e-6))
    assert silent_groups(torch.tensor([1.0, 1, 0, 1, 4]), torch.tensor([2, 2, 1, 1, 0])).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_leave_one_out_is_the_group_mean_up_to_scale():
    reward = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    group = torch.zeros(8, dtype=torch.long)
    close(group_advantage(reward, group, "leave_one_out", False), group_advantage(reward, group, "group_mean", False) * 8 / 7)


@pytest.mark.parametrize(
    ("rho", "outcome", "clipped"),
    [(1.3, 1.0, True), (0.7, -1.0, True), (0.7, 1.0, False), (1.3, -1.0, False), (1.27, 1.0, False), (0.81, -1.0, False)],
)
def test_d_clip_sides(rho, outcome, clipped):
    loss, stats, grad = at_ratio(rho, outcome, **CLIP)
    bound = min(max(rho, 0.8), 1.28) if clipped else rho
    close(loss, torch.tensor([-bound * outcome], dtype=torch.float64))
    assert bool(stats["clipped"]) == clipped and bool((grad == 0).all()) == clipped
    if not clipped:
        close(grad, rho * at_ratio(1.0, outcome)[2])


def test_clip_on_one_side_alone():
    for options, low, high in (({"clip_low": 0.2}, 0.8, 9.0), ({"clip_high": 0.2}, 0.1, 1.2)):
        close(at_ratio(9.0, 1.0, ratio="sampler", **options)[0], torch.tensor([-high], dtype=torch.float64))
        close(at_ratio(0.1, -1.0, ratio="sampler", **options)[0], torch.tensor([low], dtype=torch.float64))


def test_truncated_importance_sampling_and_hard_mask():
    score = at_ratio(1.0, -1.0)[2]
    for rho, cut in ((0.5, 0.5), (1.9, 1.9), (7.0, 2.0)):
        _, stats, grad = at_ratio(rho, -1.0, ratio="sampler", is_cap=2.0)
        close(grad, cut * score)
        assert bool(stats["clipped"]) == (rho > 2) and abs(float(stats["ratio"]) - rho) < 1e-12
    for rho, inside in ((0.4, False), (0.6, True), (3.9, True), (4.1, False)):
        loss, stats, grad = at_ratio(rho, -1.0, ratio="sampler", mask_low=0.5, mask_high=4.0)
        close(grad, inside * rho * score)
        assert bool(stats["clipped"]) != inside and (inside or loss == 0)
    assert at_ratio(1e-4, 1.0, ratio="sampler", mask_high=4.0)[2].abs().sum() > 0  # a mask on one side alone


def test_importance_ratio_removes_the_bias_of_a_stale_sampler():
    z, _ = draw(2)
    stale, _ = draw(3)
    outcome, action = torch.linspace(-1, 2, 12, dtype=torch.float64), torch.arange(12)
    sampler = Categorical.from_logits(stale.expand(12, -1)).logp(action)
    _, _, grad = surrogate(z.expand(12, -1), action, outcome, sampler, ratio="sampler")
    _, _, own = surrogate(z.expand(12, -1), action, outcome, None)
    close(sampler.exp() @ grad, z[0].softmax(-1) @ own)


def test_an_advantage_at_rollout_stays_while_the_student_moves():
    (z, p), action = draw(4), torch.tensor([1])
    q = Categorical.from_logits(z)
    for moved in (0.0, 0.5):
        evidence = Evidence(action, teacher=p, sampler_logp_N=q.logp(action) - moved)
        for at_rollout in (False, True):
            estimator = PolicyGradient(ratio="sampler", at_rollout=at_rollout)
            _, stats = estimator.loss(q, evidence, Sampled(), LogRatio(), NoBaseline())
            close(stats["advantage"], p.logp(action) - q.logp(action) + moved * at_rollout)


def test_a_ratio_needs_its_sampler():
    z, _ = draw(0)
    with pytest.raises(ValueError, match="sampler's log-probs"):
        surrogate(z, torch.tensor([0]), torch.ones(1), None, ratio="sampler")
    with pytest.raises(ValueError, match="outcome"):
        surrogate(z, torch.tensor([0]), None, None)


def test_e_k3_is_positive_and_zero_at_equality():
    logq, logr = torch.randn(2, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (kl_k3(logq, logr) > 0).all() and (kl_k3(logq, logq) == 0).all()
    close(kl_k3(logq, logr), (logr - logq).exp() - (logr - logq) - 1, 1e-12)
    x = logq.clone().requires_grad_()
    close(torch.autograd.grad(kl_k3(x, logr).sum(), x)[0], 1 - (logr - logq).exp())


def test_f_aggregation_by_hand():
    """Rows of lengths 1 and 3 with losses 4 and 1, 2, 3; budget 5."""
    loss_N, length_B = torch.tensor([4.0, 1, 2, 3]), torch.tensor([1, 3])
    want = {"token_mean": 10 / 4, "seq_mean": (4 + 2) / 2, "window_mean": 10 / 10, "seq_sum": (4 + 6) / 2}
    for name, value in want.items():
        assert float(weights_N(name, length_B, 2, 4, window=5) @ loss_N) == pytest.approx(value)
    mask = torch.tensor([1.0, 1, 0, 1])
    want = {"token_mean": 8 / 3, "seq_mean": (4 + 2) / 2, "window_mean": 8 / 10, "seq_sum": (4 + 4) / 2}
    for name, value in want.items():
        assert float(weights_N(name, length_B, 2, 3, 5, mask) @ loss_N) == pytest.approx(value)
    with pytest.raises(ValueError, match="window"):
        weights_N("window_mean", length_B, 2, 4)


@pytest.mark.parametrize("name", NAMES)
def test_micro_batches_leave_the_weights_alone(name):
    length_B = torch.tensor([1, 3, 0, 7, 2])
    whole = weights_N(name, length_B, 5, 13, 8)
    parts = [weights_N(name, length_B[i:j], 5, 13, 8) for i, j in ((0, 2), (2, 3), (3, 5))]
    assert torch.equal(torch.cat(parts), whole) and whole.shape == (13,)


def test_g_soft_overlong_knots():
    length = torch.tensor([0, 60, 61, 80, 100, 101])
    close(soft_overlong(length, 100, 40), torch.tensor([0, 0, -1 / 40, -0.5, -1, -1]), 1e-7)
    assert (soft_overlong(length, 100, 0) == 0).all()
