"""What the objectives do over whole sequences and whole trainings, on tabular models where expectations are sums. fp64.

The known facts about the objectives, and where each is tested:
 1 the policy gradient's mean is the divergence's  test_objectives_identities: ..._of_every_signal_is_the_divergence_gradient
 2 k1, k2, k3 back-propagated                      test_objectives_identities: test_k_estimators_back_propagated
 3 baselines: no bias; whose variance is less      test_objectives_identities: test_optimal_baseline_never_loses_and_...
 4 the gradient at q = p                           test_objectives_identities: test_gradient_at_agreement
 5 stop-grad and the mass; the tail as a bound     test_objectives_identities: test_stop_grad_identities;
                                                   test_objectives_supports: test_tail_bucket_bounds_the_divergence_from_below
 6 return-to-go against token-level                here
 7 beyond the teacher: fixed point, lam = 1, lam*   test_objectives_targets; test_opd_wiring: test_lam_1_is_vanilla_...
 8 the power reward                                test_objectives_rewards, test_objectives_power
 9 several teachers: which mean                    here
10 pruning weights, and the length that follows    test_row_weights, test_weights_bounds; test_lengths
11 change points; margins; freshness               test_change_point; test_row_weights
12 a teacher tilted by success is aligned         test_analyses_rollouts
13 extrapolated steps: score, speed                test_extrapolate_hook; test_hooks
14 SFT, then OPD                                   here
15 reverse against forward KL                      here
16 resume of each controller and hook              test_resume_opd; test_schedules
and 1 to 5 once more as figures in docs/estimators.md (test_estimator_table).
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment, Stream
from tests.estimator_table.measure import normal, stream
from tests.unit.objectives_toys import close, draw
from tests.unit.tabular_students import FORWARD, REVERSE, Student, teachers

TOKEN_LEVEL, RETURN_TO_GO = stream(), stream(transform=["return_to_go"])


class Bigram:
    """All sequences of length T over three tokens; state 3 is the start."""

    def __init__(self, seed: int, length: int):
        self.z_SV, teacher_SV = (normal(4, 3, name=f"bigram {who} {seed}") for who in ("student", "teacher"))
        self.p_SV = teacher_SV.log_softmax(-1)
        self.y_MT = torch.tensor(list(itertools.product(range(3), repeat=length)))
        self.s_MT = torch.cat([torch.full((len(self.y_MT), 1), 3), self.y_MT[:, :-1]], 1)

    def sequence_logp(self, logp_SV: Tensor) -> Tensor:
        return logp_SV[self.s_MT, self.y_MT].sum(1)

    @property
    def weight_M(self) -> Tensor:
        return self.sequence_logp(self.z_SV.log_softmax(-1)).exp()

    def gradients(self, term: Stream) -> Tensor:
        """Gradient of every sequence's summed loss on the table of logits, [M, S, V]."""
        state_N, action_N = self.s_MT.reshape(-1), self.y_MT.reshape(-1)
        logits_NV = self.z_SV[state_N].requires_grad_()
        q, evidence = Categorical.from_logits(logits_NV), Evidence(action_N, teacher=Categorical(self.p_SV[state_N]))
        rows = Trajectory([()] * len(self.y_MT), list(self.y_MT), torch.zeros(len(self.y_MT)))
        shift_N = term.over_batch(rows, term.survey(q, evidence), Moment()).shift_N
        loss_N, _ = term.loss(q, replace(evidence, shift_N=shift_N))
        (grad_NV,) = torch.autograd.grad(loss_N.sum(), logits_NV)
        grad_MTV = grad_NV.reshape(*self.y_MT.shape, 3)
        return torch.stack([(grad_MTV * (self.s_MT == s)[..., None]).sum(1) for s in range(4)], 1)

    def variance(self, term: Stream) -> float:
        grad_MSV = self.gradients(term)
        mean_SV = torch.einsum("m,msv->sv", self.weight_M, grad_MSV)
        return float(self.weight_M @ (grad_MSV - mean_SV).square().sum((1, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_return_to_go_is_the_sequence_level_gradient_and_token_level_that_of_the_visited_states(seed):
    chain = Bigram(seed, 4)
    x_SV = chain.z_SV.clone().requires_grad_()
    logq_M = chain.sequence_logp(x_SV.log_softmax(-1))
    (sequence_SV,) = torch.autograd.grad((logq_M.exp() * (logq_M - chain.sequence_logp(chain.p_SV))).sum(), x_SV)
    close(torch.einsum("m,msv->sv", chain.weight_M, chain.gradients(RETURN_TO_GO)), sequence_SV)
    visits_S = torch.stack([chain.weight_M @ (chain.s_MT == s).double().sum(1) for s in range(4)])
    loss_S, _ = REVERSE.loss(Categorical.from_logits(x_SV), Evidence(torch.zeros(4).long(), Categorical(chain.p_SV)))
    (token_SV,) = torch.autograd.grad((visits_S * loss_S).sum(), x_SV)
    close(torch.einsum("m,msv->sv", chain.weight_M, chain.gradients(TOKEN_LEVEL)), token_SV)
    assert (token_SV - sequence_SV).abs().max() > 0.01  # two objectives, not two estimates of one


@pytest.mark.parametrize("seed", range(8))
def test_return_to_go_is_noisier_and_the_more_so_the_longer_the_sequence(seed):
    """In each of eight random chains; 1 at one token, where both are the same."""
    chains = [Bigram(seed, length) for length in range(1, 7)]
    ratio = [c.variance(RETURN_TO_GO) / c.variance(TOKEN_LEVEL) for c in chains]
    assert ratio[0] == pytest.approx(1) and all(b > a for a, b in itertools.pairwise(ratio))


@pytest.mark.parametrize("term", [REVERSE, FORWARD], ids=["reverse", "forward"])
def test_several_teachers_meet_in_the_geometric_or_the_arithmetic_mean(term):
    """One student without the context that its teachers see (arXiv 2605.11182): reverse KL ends in the normalised geometric mean."""
    z, several = draw(12, n=5)
    student = torch.zeros(1, z.shape[-1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [student], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        optimizer.zero_grad()
        logits = student.expand(5, -1)
        loss_N, _ = term.loss(Categorical.from_logits(logits), Evidence(torch.zeros(5).long(), several))
        loss_N.mean().backward()
        return loss_N.mean().detach()

    optimizer.step(step)
    geometric, arithmetic = several.logp_NV.mean(0).softmax(-1), several.logp_NV.exp().mean(0)
    found, other = (geometric, arithmetic) if term is REVERSE else (arithmetic, geometric)
    close(student.detach().softmax(-1)[0], found, 1e-8)
    assert (found - other).abs().max() > 0.01


def test_sft_then_opd_beats_sft_alone_and_cold_opd():
    """On-policy reverse KL after equally many steps; a peaked teacher, students of rank 3 of 16; in six seeds of six."""
    p, half = teachers(6, scale=4.0), 100
    fresh = Student.fresh(6)
    sft = fresh.trained(FORWARD, "teacher", p, half)
    both, alone = sft.trained(REVERSE, "student", p, half), sft.trained(FORWARD, "teacher", p, half)
    cold = fresh.trained(REVERSE, "student", p, 2 * half)
    kl_both, kl_alone, kl_cold = (s.on_policy(p)[0] for s in (both, alone, cold))
    assert (kl_both < kl_alone).all() and (kl_both < kl_cold).all()


def test_reverse_kl_is_sharper_and_likelier_under_the_teacher_than_forward_kl():
    """Twelve students that can't match their teachers, on prefixes of either. The entropy is lower in each; what they say is
    likelier under the teacher in at least eleven: a reverse-KL student that sits in a bad mode can be an exception."""
    seeds = 12
    p, fresh = teachers(seeds, scale=2.0), Student.fresh(seeds)
    for prefixes in ("student", "teacher"):
        (_, entropy_r, likely_r), (_, entropy_f, likely_f) = (
            fresh.trained(term, prefixes, p, 150).on_policy(p) for term in (REVERSE, FORWARD)
        )
        assert (entropy_r < entropy_f).all()
        assert (likely_r > likely_f).sum() >= seeds - 1
