"""Weights at their bounds: where a count ends, ties at the edge of a share, several groups at once, options that are none."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config import plugs
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights._share import top_share
from tests.unit.objectives_toys import close, draw


def plug(name: str, **options):
    return plugs.load("objectives/weights", {"name": name, **options})


def batch(lengths: list[int], prompts: list[int] | None = None, rewards: list[float] | None = None, **columns) -> Trajectory:
    return Trajectory(
        [[1]] * len(lengths),
        [torch.zeros(n, dtype=torch.long) for n in lengths],
        torch.tensor(prompts or list(range(len(lengths)))),
        reward_B=None if rewards is None else torch.tensor(rewards),
        **columns,
    )


def of(weight, rows: Trajectory, found=None, moment: Moment | None = None) -> torch.Tensor:
    return weight.over_batch(rows, found or {}, moment or Moment())[0]


def prune(overlap: list[float], lengths: list[int], **options):
    weight = plug("overlap_decay", **{"k": 4, "gamma": 0.7, "drop": 0.25, "base": 0.5, "margin": 1} | options)
    return weight.over_batch(batch(lengths), {"overlap": torch.tensor(overlap)}, Moment(window=6))


@pytest.mark.parametrize("drop", [0.5, 0.1, 0.01])
def test_prune_falls_from_1_to_0_in_one_over_drop_events(drop):
    length, events = 400, round(1 / drop)
    overlap = torch.rand(length, generator=torch.Generator().manual_seed(0))
    weight_N, figures = prune(overlap.tolist(), [length], drop=drop, base=0.0)
    bad_N = overlap < 0.7
    count_N = bad_N.cumsum(0)
    assert (weight_N[1:] <= weight_N[:-1]).all()
    assert (weight_N[count_N == 0] == 1).all() and (weight_N[(count_N > 0) & (count_N < events)] > 0).all()
    assert (weight_N[count_N >= events] < 1e-6).all() and (weight_N[count_N == 1] < 1).all()
    assert figures["effective_length"] == (count_N < events).sum() < length


@pytest.mark.parametrize(("n", "share"), [(10, 0.2), (11, 0.2), (1, 0.2), (7, 0.5), (30, 0.1), (100, 0.07), (5, 1.0)])
def test_exactly_the_share_is_kept_rounded_up(n, share):
    value_N = torch.randn(n, generator=torch.Generator().manual_seed(n))
    kept_N = top_share(value_N, share)
    count = -(-n * round(share * 100) // 100)
    assert kept_N.sum() == count and set(kept_N.tolist()) <= {0.0, 1.0}
    assert value_N[kept_N == 1].min() >= value_N.sort(descending=True).values[count - 1]
    assert top_share(torch.zeros(n), share).tolist() == [1.0] * count + [0.0] * (n - count)  # equals: the earlier


@pytest.mark.parametrize("which", ["correct", "wrong"])
def test_scope_weights_sum_to_the_number_of_rows_of_their_class(which):
    lengths, prompts = [2, 3, 1, 2, 2, 4, 1], [5, 5, 5, 5, 9, 9, 9]
    rows = batch(lengths, prompts, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    z, p = draw(3, n=sum(lengths))
    weight = plug("perplexity_route", which=which, tau=0.7)
    q, action = Categorical.from_logits(z), torch.arange(sum(lengths)) % 12
    found = weight.survey(q, Evidence(action, teacher=p))
    weight_N = of(weight, rows, {name: value_N.float() for name, value_N in found.items()})  # as the loop hands them over
    weight_B = torch.stack([part[0] for part in weight_N.split(lengths)])
    assert torch.equal(weight_N, weight_B[rows.owner_N])
    by, sign = (q, 1) if which == "correct" else (p, -1)
    ppl_B = torch.stack([(-part.mean()).exp() for part in by.logp(action).split(lengths)])
    for group in ([0, 2], [1, 3], [4, 5, 6]):
        if (rows.reward_B[group[0]] >= 0.5) == (which == "correct"):
            assert weight_B[group].sum() == pytest.approx(len(group))
            raw = ppl_B[group] ** (sign / 0.7)
            close(weight_B[group].double(), raw / raw.sum() * len(group), 1e-5)
        else:
            assert (weight_B[group] == 0).all()


def test_places():
    rows = batch([3, 1, 2], ended_B=torch.tensor([True, True, False]))
    assert of(plug("not_end"), rows).tolist() == [1, 1, 0, 0, 1, 1]
    seen = Evidence(rows.action_N, step_N=rows.step_N)
    assert plug("first_tokens", length=2).weight_N(None, seen).tolist() == [1, 1, 0, 1, 1, 1]
    shown = rows.with_columns(extra={"context:teacher": [[1, 7], [1], [1, 2]]})
    assert of(plug("has_context"), shown).tolist() == [1, 1, 1, 0, 1, 1]
    assert of(plug("has_context"), rows).sum() == 0


def test_single_tokens():
    z, p = draw(5, n=12)
    q, action = Categorical.from_logits(z), torch.arange(12)
    likes = p.logp(action) > q.logp(action)
    sampler = q.logp(action) - torch.linspace(-1, 1, 12, dtype=torch.float64)
    evidence = Evidence(action, teacher=p, sampler_logp_N=sampler)
    assert torch.equal(plug("teacher_prefers").weight_N(q, evidence) == 1, likes)
    assert torch.equal(plug("teacher_prefers", more=False).weight_N(q, evidence) == 1, ~likes)
    assert torch.equal(plug("teacher_entropy_above", tau=1.5).weight_N(q, evidence) == 1, p.entropy() > 1.5)
    assert 0 < (p.entropy() > 1.5).sum() < 12
    close(plug("importance", cap=1.5).weight_N(q, evidence), (q.logp(action) - sampler).exp().clamp(max=1.5))
