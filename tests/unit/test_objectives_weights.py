"""Weights over tokens, rows and prompts, against their formulas, by hand and by brute force."""

from __future__ import annotations

import math

import pytest
import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment, build
from opd_steps.objectives.weights.entropy_top import EntropyTop
from opd_steps.objectives.weights.not_end import NotEnd
from opd_steps.objectives.weights.outcome_is import OutcomeIs
from opd_steps.objectives.weights.pass_rate import PassRate
from opd_steps.objectives.weights.perplexity_route import PerplexityRoute
from opd_steps.objectives.weights.teacher_entropy_above import TeacherEntropyAbove
from opd_steps.objectives.weights.teacher_prefers import TeacherPrefers
from opd_steps.objectives.weights.tip import TIP, composition
from tests.unit.objectives_toys import close, draw
from tests.unit.test_objectives_stream import row


def rows(lengths, prompts, rewards, ended=None) -> Trajectory:
    return Trajectory(
        [[0]] * len(lengths),
        [torch.zeros(n, dtype=torch.long) for n in lengths],
        torch.tensor(prompts),
        reward_B=torch.tensor(rewards),
        ended_B=torch.tensor(ended or [True] * len(lengths)),
    )


def one_row(n: int) -> Trajectory:
    return rows([n], [0], [1.0])


@pytest.mark.parametrize("n", [1, 4, 5, 7, 10, 101])
def test_entropy_top_keeps_exactly_its_share_and_the_most_uncertain(n):
    entropy_N = torch.rand(n, generator=torch.Generator().manual_seed(n))
    weight_N, _ = EntropyTop(0.2).over_batch(one_row(n), {"entropy": entropy_N}, Moment())
    keep = -(-n // 5)
    assert weight_N.sum() == keep
    assert set(weight_N.nonzero()[:, 0].tolist()) == set(entropy_N.topk(keep).indices.tolist())


def test_tip_by_brute_force_keeps_confident_errors_that_entropy_leaves_out():
    p = torch.tensor([[0.02, 0.97, 0.01], [0.4, 0.3, 0.3], [0.98, 0.01, 0.01], [0.97, 0.02, 0.01]], dtype=torch.float64)
    q = torch.tensor([[0.98, 0.01, 0.01], [0.4, 0.3, 0.3], [0.98, 0.01, 0.01], [0.9, 0.05, 0.05]], dtype=torch.float64)
    found = TIP().survey(Categorical(q.log()), Evidence(torch.zeros(4, dtype=torch.long), teacher=Categorical(p.log())))
    for i in range(4):
        h = -sum(x * math.log(x) for x in q[i].tolist()) / math.log(3)
        middle = ((p[i] + q[i]) / 2).tolist()
        jsd = sum(0.5 * x * math.log(x / m) for d in (p[i], q[i]) for x, m in zip(d.tolist(), middle, strict=True))
        d = jsd / math.log(2)
        assert float(found["importance"][i]) == pytest.approx(h + d - h * d)
    kept = {
        by: TIP(0.5, by).over_batch(one_row(4), found, Moment())[0].nonzero()[:, 0].tolist() for by in ("importance", "entropy")
    }
    assert kept == {"importance": [0, 1], "entropy": [1, 3]}  # token 0: sure, and wrong


def test_what_tip_keeps_by_quadrant():
    draw = torch.Generator().manual_seed(0)
    h_N, d_N, keep_N = torch.rand(101, generator=draw), torch.rand(101, generator=draw), torch.rand(101, generator=draw) < 0.3
    found, halves = composition(keep_N, h_N, d_N), [sorted(x_N.tolist())[50] for x_N in (h_N, d_N)]  # the medians of 101
    cells = [
        ("unsure" if h > halves[0] else "sure") + "_" + ("apart" if d > halves[1] else "agreed")
        for h, d in zip(h_N, d_N, strict=True)
    ]
    kept = [cell for cell, keep in zip(cells, keep_N, strict=True) if keep]
    for name in ("sure_agreed", "sure_apart", "unsure_agreed", "unsure_apart"):
        assert found[f"kept_{name}"] == pytest.approx(kept.count(name) / len(kept))
    assert found["sure_apart_kept"] == pytest.approx(kept.count("sure_apart") / cells.count("sure_apart"))
    assert set(found) == set(TIP.METRICS) and "sure_apart_kept" not in composition(keep_N, h_N, h_N)  # none is sure and apart
    rest = {"distance": d_N, "importance": h_N + d_N - h_N * d_N, "entropy": h_N}
    figures = {by: TIP(0.3, by).over_batch(one_row(101), rest, Moment())[1] for by in ("importance", "entropy")}
    assert figures["importance"]["sure_apart_kept"] > 0 == figures["entropy"]["sure_apart_kept"]


def test_tip_at_random_is_a_function_of_seed_and_step():
    found = {name: torch.rand(40) for name in ("entropy", "distance")}
    draws = [
        TIP(0.5, "random").over_batch(one_row(40), found, Moment(step, seed))[0]
        for step, seed in [(1, 0), (1, 0), (2, 0), (1, 1)]
    ]
    assert all(d.sum() == 20 for d in draws)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


def test_pass_rates_weigh_the_middle_and_nothing_at_the_ends():
    batch = rows([2] * 12, [0] * 4 + [1] * 4 + [2] * 4, [0.0] * 4 + [1, 1, 1, 0] + [1.0] * 4)
    weight_N, figures = PassRate().over_batch(batch, {}, Moment())
    assert weight_N.reshape(3, 8)[:, 0].tolist() == [0.0, 3.0, 0.0]  # mean 1 over the rows
    assert figures["weighty_prompts"] == pytest.approx(1 / 3)
    both = rows([1] * 8, [0] * 4 + [1] * 4, [1, 0, 0, 0, 1, 1, 0, 0])
    weight_N, _ = PassRate(alpha=1.0, beta=2.0).over_batch(both, {}, Moment())
    assert float(weight_N[0] / weight_N[4]) == pytest.approx(0.25 * 0.75**2 / (0.5 * 0.5**2))
    none = rows([1, 1], [0, 1], [1.0, 0.0])
    assert PassRate().over_batch(none, {}, Moment())[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("which", "count", "harder_is"), [("correct", 3, 1), ("wrong", 2, -1)])
def test_perplexity_routes_sum_to_the_rows_of_their_outcome(which, count, harder_is):
    batch = rows([2, 3, 1, 2, 2], [7] * 5, [1.0, 1.0, 1.0, 0.0, 0.0])
    mean_B = torch.tensor([-0.2, -1.0, -0.5, -0.3, -2.0])
    logp_N = torch.repeat_interleave(mean_B, batch.length_B)
    weight_N, _ = PerplexityRoute(which, tau=1.0).over_batch(batch, {"logp": logp_N}, Moment())
    weight_B = torch.tensor([float(w[0]) for w in weight_N.split(batch.length_B.tolist())])
    own = slice(0, 3) if which == "correct" else slice(3, 5)
    assert weight_B.sum() == pytest.approx(count)
    assert weight_B[own].sum() == pytest.approx(count)
    ppl_B = (-mean_B[own]).exp() ** harder_is
    close(weight_B[own], count * ppl_B / ppl_B.sum(), 1e-6)


def test_rows_by_outcome_and_end_tokens():
    batch = rows([2, 3], [0, 0], [1.0, 0.0], [True, False])
    assert OutcomeIs("wrong").over_batch(batch, {}, Moment())[0].tolist() == [0, 0, 1, 1, 1]
    assert OutcomeIs("correct").over_batch(batch, {}, Moment())[0].tolist() == [1, 1, 0, 0, 0]
    assert NotEnd().over_batch(batch, {}, Moment())[0].tolist() == [1, 0, 1, 1, 1]  # the second row was cut, not ended


def test_teacher_gates():
    sharp, flat = [0.98, 0.01, 0.01], [0.4, 0.3, 0.3]
    p, q = (Categorical(torch.tensor(x, dtype=torch.float64).log()) for x in ([sharp, flat, flat], [flat, sharp, flat]))
    evidence = Evidence(torch.zeros(3, dtype=torch.long), teacher=p)
    assert TeacherEntropyAbove(0.8).weight_N(q, evidence).tolist() == [0, 1, 1]
    assert TeacherPrefers().weight_N(q, evidence).tolist() == [1, 0, 0]
    assert TeacherPrefers(more=False).weight_N(q, evidence).tolist() == [0, 1, 1]  # together: every token once


def test_a_gate_that_never_opens_leaves_vanilla():
    logits, teacher = draw(5, 6)
    evidence = Evidence(torch.arange(6), teacher=teacher)
    support = {"name": "teacher_topk", "k": 4}
    gate = {"name": "teacher_entropy_above", "tau": 99.0}
    term = build(row(signal="fkl", support=support, estimator="exact", weight=[gate]))
    z = logits.clone().requires_grad_()
    assert torch.autograd.grad(term.loss(Categorical.from_logits(z), evidence)[0].sum(), z)[0].abs().max() == 0
