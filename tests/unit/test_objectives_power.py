"""The policy gradient of the power reward p^alpha - q^alpha (PowerOPD): its mean, where it rests, and its noise. fp64.

Fact 8 of the list in test_objectives_tabular; the reward itself is tested in test_objectives_rewards.
"""

from __future__ import annotations

import pytest
import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from tests.estimator_table.measure import Pairs, stream
from tests.unit.objectives_toys import close, draw


def sampled_gradients(term, pairs: Pairs) -> torch.Tensor:
    """Logit gradient for every pair and every sampled token, [P, A, V]."""
    count, v = pairs.logits_PV.shape
    z = pairs.logits_PV.repeat_interleave(v, 0).requires_grad_()
    evidence = Evidence(torch.arange(v).repeat(count), teacher=Categorical(pairs.teacher_PV.repeat_interleave(v, 0)))
    loss_N, _ = term.loss(Categorical.from_logits(z), evidence)
    return torch.autograd.grad(loss_N.sum(), z)[0].view(count, v, v)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_agreement_is_the_only_fixed_point(alpha):
    """The mean gradient is 0 at q = p, elsewhere not."""
    term, pairs = stream(signal={"name": "power", "alpha": alpha}), Pairs.draw(v=6, each=4)
    mean = lambda pairs: torch.einsum("pa,pav->pv", pairs.q_PV, sampled_gradients(term, pairs))
    close(mean(pairs.agreed()), torch.zeros_like(pairs.logits_PV))
    reward_PV = pairs.teacher_PV.exp() ** alpha - pairs.q_PV**alpha
    close(mean(pairs), -pairs.q_PV * (reward_PV - (pairs.q_PV * reward_PV).sum(-1, keepdim=True)))
    assert (mean(pairs).norm(dim=-1) > 1e-3).all()


def test_descent_on_the_mean_gradient_comes_to_the_teacher():
    term, (z, p) = stream(signal={"name": "power", "alpha": 1.0}), draw(2, v=4, scale=0.5)
    for _ in range(60):
        pairs = Pairs(z, p.logp_NV, z)
        z = z - 2 / pairs.q_PV * torch.einsum("pa,pav->pv", pairs.q_PV, sampled_gradients(term, pairs))
    close(z.log_softmax(-1), p.logp_NV, 1e-6)


def test_noise_to_signal_is_lower_than_vanillas_in_the_median():
    """sqrt(total variance) / |mean| at one sample; in the median over pairs of all sharpnesses, not in each."""
    pairs = Pairs.draw()

    def noise(term) -> torch.Tensor:
        g_PAV = sampled_gradients(term, pairs)
        mean_PV = torch.einsum("pa,pav->pv", pairs.q_PV, g_PAV)
        second_P = torch.einsum("pa,pav->p", pairs.q_PV, g_PAV.square())
        return (second_P - mean_PV.square().sum(-1)).sqrt() / mean_PV.norm(dim=-1)

    ratio = noise(stream(signal={"name": "power", "alpha": 5.0})) / noise(stream())
    assert ratio.median() < 0.9
