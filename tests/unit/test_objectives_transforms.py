"""What transforms make of the advantage, against brute force and the papers' post-conditions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from opd_steps.config import plugs
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment, Stream
from tests.estimator_table.measure import stream
from tests.unit.objectives_toys import V, close, draw

LENGTHS, PROMPTS = [3, 1, 4, 2, 2, 5, 3, 1], [0, 0, 0, 1, 1, 1, 2, 2]
REWARDS = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]  # the last prompt is always solved
N = sum(LENGTHS)


def plug(name: str, **options):
    return plugs.load("objectives/transforms", {"name": name, **options})


def setting(seed: int) -> tuple[Trajectory, Categorical, Evidence, torch.Tensor]:
    """Rows, student, evidence, and the log-ratio of each token."""
    z, p = draw(seed, n=N)
    action = torch.arange(N) % V
    rows = Trajectory([[1]] * 8, list(action.split(LENGTHS)), torch.tensor(PROMPTS), reward_B=torch.tensor(REWARDS))
    outcome = torch.randn(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).round()
    q = Categorical.from_logits(z)
    return rows, q, Evidence(action, teacher=p, outcome_N=outcome), p.logp(action) - q.logp(action)


def advantage(term: Stream, rows: Trajectory, q: Categorical, evidence: Evidence) -> torch.Tensor:
    """The advantage that the estimator used, with what the wide plugs added."""
    found = {key: value_N.float() for key, value_N in term.survey(q, evidence).items()}  # fp32, as in the loop
    shift_N = term.over_batch(rows, found, Moment()).shift_N
    return term.loss(q, replace(evidence, shift_N=shift_N))[1]["advantage"]


def of(transforms: list, seed: int = 0, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantage with the transforms, log-ratio)."""
    rows, q, evidence, r_N = setting(seed)
    return advantage(stream(transform=transforms, **options), rows, q, evidence), r_N


# return to go


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("length_norm", [True, False])
def test_return_to_go_by_brute_force(gamma, own, length_norm):
    found, r_N = of([{"name": "return_to_go", "gamma": gamma, "own": own, "length_norm": length_norm}])
    expected = []
    for r_T in r_N.split(LENGTHS):
        for t in range(len(r_T)):
            future = sum(gamma ** (u - t) * float(r_T[u]) for u in range(t + 1, len(r_T)))
            future = future / max(len(r_T) - t - 1, 1) if length_norm else future
            expected.append(future + (float(r_T[t]) if own else 0.0))
    close(found, torch.tensor(expected, dtype=torch.float64), 1e-5)
    if gamma == 0 and own:
        assert torch.equal(found, r_N)  # vanilla, to the bit


def test_return_to_go_looks_at_the_target_not_at_the_teacher():
    _, r = draw(7, n=N)
    rows, q, evidence, _ = setting(0)
    evidence = replace(evidence, others={"reference": r})
    far_N = 1.5 * (evidence.teacher.logp(evidence.action_N) - r.logp(evidence.action_N))
    far_N = far_N + r.logp(evidence.action_N) - q.logp(evidence.action_N)
    found = advantage(stream(target={"name": "extrapolate", "lam": 1.5}, transform=["return_to_go"]), rows, q, evidence)
    expected = torch.cat([x_T.flip(0).cumsum(0).flip(0) for x_T in far_N.split(LENGTHS)])
    close(found, expected, 1e-5)


# margins


def test_margin_figures_count_wrongly_ordered_pairs():
    rows, _, _, r_N = setting(3)
    shift = plug("margin_shift", delta=0.0, gap="minmax")
    _, figures = shift.over_batch(rows, {"r": r_N.float()}, Moment())
    score = torch.stack([r.mean() for r in r_N.split(LENGTHS)])
    pairs = [(i, j) for i in range(8) for j in range(8) if PROMPTS[i] == PROMPTS[j] and REWARDS[i] > REWARDS[j]]
    assert figures["inverted"] == pytest.approx(sum(bool(score[i] < score[j]) for i, j in pairs) / len(pairs))
    assert figures["inverted"] > 0 and figures["inverted_after"] == 0
    solved = rows.rows([6, 7])
    assert shift.over_batch(solved, {"r": torch.ones(4)}, Moment())[1] == {}


# one token at a time


def test_simple_transforms():
    r_N = of([])[1]
    close(of(["tanh"])[0], r_N.tanh())
    close(of(["clip"])[0], r_N.clamp(-1, 1))
    close(of(["positive_part"])[0], r_N.relu())
    close(of([{"name": "drop_below", "threshold": -0.5}])[0], torch.where(r_N < -0.5, 0.0, r_N))
    z_N = of(["zscore"])[0]
    close(z_N, (r_N - r_N.mean()) / r_N.std(), 1e-4)
    assert any((z * r < 0).any() for z, r in (of(["zscore"], seed) for seed in range(6)))  # it turns signs
    close(of(["positive_part", {"name": "clip", "low": 0.2}])[0], r_N.relu().clamp(0.2, 1))  # in their order
    close(of([{"name": "clip", "low": 0.2}, "positive_part"])[0], r_N.clamp(0.2, 1))


def test_a_wide_transform_acts_before_the_others():
    found, _ = of(["return_to_go", "floor"])
    plain = of(["return_to_go"])[0]
    close(found, plain.clamp(min=math.log(0.3) / 0.7))


# outcomes
