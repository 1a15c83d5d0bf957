"""Weights and shifts that look at whole rows: Prune-OPD's decay, f-OPD's freshness, Uni-OPD's margins and balance."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.transforms.margin_shift import MarginShift
from opd_steps.objectives.weights.balance import Balance
from opd_steps.objectives.weights.freshness import Freshness
from opd_steps.objectives.weights.overlap_decay import OverlapDecay


def rows(lengths: list[int], reward=None, prompt=None, version=None) -> Trajectory:
    column = lambda values, fill: torch.tensor(values if values is not None else [fill] * len(lengths))
    return Trajectory(
        [[0]] * len(lengths),
        [torch.zeros(n, dtype=torch.long) for n in lengths],
        column(prompt, 0),
        reward_B=column(reward, 0.0),
        version_B=column(version, 0),
    )


def test_overlap_is_the_share_of_common_likeliest_tokens():
    q, p = (Categorical(torch.tensor([x]).log()) for x in ([0.4, 0.3, 0.2, 0.1], [0.1, 0.4, 0.3, 0.2]))
    evidence = Evidence(torch.tensor([0]), teacher=p)
    found = [float(OverlapDecay(k=k).survey(q, evidence)["overlap"]) for k in (1, 2, 3, 4)]
    assert found == pytest.approx([0, 1 / 2, 2 / 3, 1])


def test_a_token_outside_of_the_teachers_nucleus_is_bad():
    """p = .4, .3, .2, .1: before token 2 lies a mass of .7, before token 3 one of .9."""
    p = Categorical(torch.tensor([[0.4, 0.3, 0.2, 0.1]] * 4).log())
    evidence = Evidence(torch.tensor([0, 1, 2, 3]), teacher=p)
    found = lambda **options: OverlapDecay(event="nucleus", **options).survey(p, evidence)["outside"].tolist()
    assert (
        found(k=4, top_p=0.8) == [0, 0, 0, 1]
        and found(k=4, top_p=0.5) == [0, 0, 1, 1]
        and found(k=2, top_p=0.95) == [0, 0, 1, 1]
    )
    plug = OverlapDecay(k=2, event="nucleus", drop=0.5, base=0.0)
    assert plug.over_batch(rows([4]), plug.survey(p, evidence), Moment(window=4))[0].tolist() == [1.0, 1.0, 0.5, 0.0]


def test_pruning_by_hand():
    plug = OverlapDecay(k=4, gamma=0.7, drop=0.5, base=0.25, margin=1)
    overlap = torch.tensor([1.0, 0.5, 0.75, 0.5, 1.0, 1.0, 1.0])  # bad below .7: tokens 1 and 3 of the first row
    weight, figures = plug.over_batch(rows([5, 2]), {"overlap": overlap}, Moment(window=3))
    assert weight.tolist() == pytest.approx([1.25, 0.75, 0.75, 0.25, 0.25, 1.25, 1.25])
    assert figures == {"effective_length": 2.5, "prune_hits": 1.0, "overlap": pytest.approx(5.75 / 7)}
    assert plug.over_batch(rows([5, 2]), {"overlap": overlap}, Moment(window=4))[1]["prune_hits"] == 0.5
    strict = OverlapDecay(
        k=4, gamma=0.7, drop=0.5, base=0.25, margin=1, least=3
    )  # under it no row counts, however short the budget
    assert strict.over_batch(rows([5, 2]), {"overlap": overlap}, Moment(window=3))[1]["prune_hits"] == 0.5


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30), st.sampled_from([0.05, 0.1, 0.25]))
def test_pruning_falls_along_a_row_and_with_gamma(overlap, drop):
    found = {"overlap": torch.tensor(overlap)}
    prune = lambda gamma: OverlapDecay(gamma=gamma, drop=drop, base=0.5).over_batch(rows([len(overlap)]), found, Moment())
    weights, lengths = zip(*[(w, f["effective_length"]) for w, f in map(prune, (0.5, 0.7, 0.9))], strict=True)
    for weight in weights:
        assert bool((weight.diff() <= 1e-6).all()) and 0.5 <= float(weight.min()) <= float(weight.max()) <= 1.5
    assert lengths[0] >= lengths[1] >= lengths[2]
    bad = [i for i, value in enumerate(overlap) if value < 0.7]
    assert bool((weights[1][: bad[0] if bad else None] == 1.5).all())
    if len(bad) >= 1 / drop:
        assert weights[1][bad[round(1 / drop) - 1] :].tolist() == pytest.approx(
            [0.5] * (len(overlap) - bad[round(1 / drop) - 1])
        )


def test_freshness_by_hand_and_its_order():
    f = lambda age, drift, **options: float(
        Freshness(xi=0.0, **options).over_batch(
            rows([2], version=[9 - age]), {"drift": torch.tensor([0.0, 2 * drift])}, Moment(step=10)
        )[0][0]
    )
    assert f(0, 0.0) == 1
    assert f(3, 0.04, alpha=2.0) == pytest.approx(math.exp(-2 * 0.2) / 4)
    assert f(3, 0.04, lag_only=True) == pytest.approx(1 / 4)
    assert f(0, 0.1) > f(1, 0.1) > f(2, 0.1) and f(1, 0.0) > f(1, 0.1) > f(1, 0.2)


def test_freshness_cuts_below_xi_and_reports():
    weight, figures = Freshness(xi=0.3).over_batch(rows([1, 2], version=[9, 6]), {"drift": torch.zeros(3)}, Moment(step=10))
    assert weight.tolist() == pytest.approx([0.7, 0.0, 0.0])
    assert figures == {"freshness": pytest.approx(0.625), "drift": 0.0, "aligned": 0.5}


def test_drift_estimates_the_kl_to_the_sampler():
    """E over the sampler of rho log rho - (rho - 1) is KL(student || sampler), exactly, and no term is negative."""
    q, mu = (
        Categorical(torch.tensor([x], dtype=torch.float64).log().expand(3, -1)) for x in ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6])
    )
    actions = torch.arange(3)
    drift_N = Freshness().survey(q, Evidence(actions, sampler_logp_N=mu.logp(actions)))["drift"]
    kl = (q.logp_NV[0].exp() * (q.logp_NV[0] - mu.logp_NV[0])).sum()
    assert bool((drift_N >= 0).all())
    assert float((mu.logp_NV[0].exp() * drift_N).sum()) == pytest.approx(float(kl))


@given(st.integers(0, 10**6), st.sampled_from(["both", "correct_up", "wrong_down"]), st.sampled_from(["mean", "minmax"]))
def test_after_the_shift_every_mixed_group_has_its_margin(seed, direction, gap):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (12,), generator=draw).tolist()
    reward = torch.randint(0, 2, (12,), generator=draw).float()
    batch = rows(lengths, reward.tolist(), [i // 4 for i in range(12)])
    r = torch.randn(sum(lengths), generator=draw)
    shift, figures = MarginShift(delta=0.4, gap=gap, direction=direction).over_batch(batch, {"r": r}, Moment())
    means = lambda x: torch.stack([part.mean() for part in x.split(lengths)])
    for part in shift.split(lengths):
        assert bool((part == part[0]).all())  # differences within a row stay
    before, after = means(r), means(r + shift)
    for g in range(3):
        right, wrong = (torch.tensor([i // 4 == g for i in range(12)]) & (reward == x) for x in (1, 0))
        if not right.any() or not wrong.any():
            assert torch.equal(before[right | wrong], after[right | wrong])
            continue
        margin = lambda s, a=right, b=wrong: s[a].mean() - s[b].mean() if gap == "mean" else s[a].min() - s[b].max()
        assert float(margin(after)) == pytest.approx(max(float(margin(before)), 0.4), abs=1e-4)
        still = {"correct_up": wrong, "wrong_down": right}.get(direction)
        assert still is None or torch.equal(before[still], after[still])
    assert figures.get("inverted_after", 0.0) <= figures.get("inverted", 0.0)
    assert gap == "mean" or figures.get("inverted_after", 0.0) == 0


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.integers(1, 50))
def test_balance_keeps_as_many_of_either_outcome(correct, step):
    batch = rows([2] * len(correct), [float(c) for c in correct])
    keep, figures = Balance().over_batch(batch, {}, Moment(step=step))
    keep_B = keep.reshape(-1, 2)[:, 0]
    right = torch.tensor(correct)
    mixed = 0 < sum(correct) < len(correct)
    wanted = min(sum(correct), len(correct) - sum(correct)) if mixed else None
    assert not mixed or (int(keep_B[right].sum()), int(keep_B[~right].sum())) == (wanted, wanted)
    assert mixed or bool(keep_B.all())
    assert figures["balanced_out"] == pytest.approx(1 - float(keep_B.mean()))
    assert torch.equal(keep, Balance().over_batch(batch, {}, Moment(step=step))[0])
