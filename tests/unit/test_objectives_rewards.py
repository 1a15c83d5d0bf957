"""Rewards, their transforms and reshaped targets of single papers, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.estimators.exact import Exact
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.power import Power
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.targets.taid import TAID
from opd_steps.objectives.targets.veto import Veto
from opd_steps.objectives.transforms.clip import Clip
from opd_steps.objectives.transforms.drop_below import DropBelow
from opd_steps.objectives.transforms.floor import Floor
from opd_steps.objectives.transforms.positive_part import PositivePart
from opd_steps.objectives.transforms.scale_outcome import ScaleOutcome
from opd_steps.objectives.transforms.tanh import Tanh
from opd_steps.objectives.transforms.zscore import ZScore
from tests.unit.objectives_toys import close, draw, gradient

NOTHING = Evidence(torch.zeros(1, dtype=torch.long))


def pair(seed: int, n: int = 50, scale: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    logits_NV, teacher = draw(seed, n, scale=scale)
    return torch.log_softmax(logits_NV, -1), teacher.logp_NV


@pytest.mark.parametrize("alpha", [0.1, 5.0, 500.0])
def test_power_reward_is_bounded_and_never_against_the_log_ratio(alpha):
    logq, logp = pair(1)
    reward = Power(alpha).reward(logq, logp)
    assert reward.abs().max() <= 1
    assert (reward * (logp - logq) >= 0).all()  # 0 where both powers underflow
    if alpha < 500:
        assert (reward.sign() == (logp - logq).sign()).all()


def test_power_reward_over_alpha_tends_to_the_log_ratio():
    logq, logp = pair(2)
    close(Power(1e-7).reward(logq, logp) / 1e-7, logp - logq, 1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_power_has_no_rest_but_the_teacher(seed):
    """(diag q - q q^T)(p^a - q^a) = 0 only where p^a - q^a is one constant, which two distributions allow only as 0."""
    logits, teacher = draw(seed)

    def expected(logq):
        q, reward = logq.exp(), Power(5.0).reward(logq, teacher.logp_NV)
        return q * (reward - (q * reward).sum(-1, keepdim=True))

    assert expected(torch.log_softmax(logits, -1)).abs().max() > 1e-4
    close(expected(teacher.logp_NV), torch.zeros_like(logits))


def test_transforms_by_hand():
    a = torch.tensor([[-5.0], [-1.0], [0.5], [3.0]])
    floor = math.log(0.3) / 0.7
    assert floor == pytest.approx(-1.72, abs=1e-3)
    for transform, expected in [
        (Floor(0.3), [floor, -1.0, 0.5, 3.0]),
        (DropBelow(-1.72), [0.0, -1.0, 0.5, 3.0]),
        (PositivePart(), [0.0, 0.0, 0.5, 3.0]),
        (Clip(), [-1.0, -1.0, 0.5, 1.0]),
        (Tanh(), [math.tanh(x) for x in (-5.0, -1.0, 0.5, 3.0)]),
    ]:
        close(transform.apply(a, NOTHING)[:, 0], torch.tensor(expected), 1e-6)


def test_zscores_have_mean_zero_and_turn_signs_which_tanh_never_does():
    r_N = torch.tensor([-3.0, -0.5, -0.1, 0.0, 0.2])
    rows = Trajectory([[0]], [torch.zeros(5, dtype=torch.long)], torch.zeros(1))
    shift_N, _ = ZScore().over_batch(rows, {"r": r_N}, Moment())
    z_N = r_N + shift_N
    assert z_N.mean().abs() < 1e-6
    assert z_N.std() == pytest.approx(1, abs=1e-5)
    assert z_N[1] > 0 > r_N[1]
    assert (Tanh().apply(r_N[:, None], NOTHING).sign() == r_N[:, None].sign()).all()


def test_the_teacher_scales_an_outcome_and_never_turns_it():
    ratio_N = torch.tensor([-9.0, -0.3, 0.0, 0.3, 9.0])
    for outcome in (1.5, -2.0, 0.0):
        evidence = Evidence(torch.zeros(5, dtype=torch.long), outcome_N=torch.full((5,), outcome))
        got = ScaleOutcome(0.5).apply(ratio_N[:, None], evidence)[:, 0]
        assert (got.sign() == torch.tensor(outcome).sign()).all()
        power = ratio_N.exp() if outcome > 0 else (-ratio_N).exp()
        close(got, outcome * power.clamp(0.5, 1.5), 1e-6)


def target_gradient(logits, teacher, target, signal):
    aimed = target.of(Categorical.from_logits(logits), Evidence(torch.zeros(len(logits), dtype=torch.long), teacher=teacher))
    return gradient(logits, aimed, Exact(), Full(), signal)


@pytest.mark.parametrize("signal", [ForwardKL(), ReverseKL()])
@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_veto_rests_at_a_sharpened_teacher(signal, beta):
    """q proportional to p q^beta: q proportional to p^(1 / (1 - beta)), under either divergence."""
    _, teacher = draw(3)
    close(target_gradient(teacher.logp_NV / (1 - beta), teacher, Veto(beta), signal), torch.zeros(1, 12, dtype=torch.float64))
    assert target_gradient(teacher.logp_NV, teacher, Veto(beta), signal).abs().max() > 1e-3


@pytest.mark.parametrize("signal", [ForwardKL(), ReverseKL()])
def test_neutral_targets_are_the_teacher(signal):
    logits, teacher = draw(4, 5)
    plain = gradient(logits, teacher, Exact(), Full(), signal)
    close(target_gradient(logits, teacher, Veto(0.0), signal), plain)
    close(target_gradient(logits, teacher, TAID(1.0), signal), plain)
    close(target_gradient(logits, teacher, TAID(0.0), signal), torch.zeros_like(plain))


def test_veto_silences_what_the_student_deems_impossible():
    """Forward KL asks p_v of a token with q_v -> 0; the bridge asks less, the less likely the token."""
    teacher = Categorical(torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log())
    pushes = []
    for low in (2.0, 6.0, 12.0):
        logits = torch.tensor([[0.0, 0.0, -low]], dtype=torch.float64)
        pushes.append(float(-target_gradient(logits, teacher, Veto(0.5), ForwardKL())[0, 2]))
        plain = float(-gradient(logits, teacher, Exact(), Full(), ForwardKL())[0, 2])
    assert pushes[0] > pushes[1] > pushes[2] > 0
    assert pushes[2] < 0.01 < 0.19 < plain
