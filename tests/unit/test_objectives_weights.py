"""Weights that look at whole rows or the whole batch, on written-out batches."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from opd_steps.config import plugs
from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.jsd import JSD
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


# Prune-OPD


def prune(overlap: list[float], lengths: list[int], **options):
    weight = plug("overlap_decay", **{"k": 4, "gamma": 0.7, "drop": 0.25, "base": 0.5, "margin": 1} | options)
    return weight.over_batch(batch(lengths), {"overlap": torch.tensor(overlap)}, Moment(window=6))


def test_prune_by_hand():
    weight_N, figures = prune([1.0, 0.5, 0.75, 0.0, 0.0, 0.0, 0.7, 0.69], [6, 2])
    close(weight_N, torch.tensor([1.5, 1.25, 1.25, 1.0, 0.75, 0.5, 1.5, 1.25]), 1e-6)  # .7 itself is not bad
    assert figures["effective_length"] == (5 + 2) / 2  # R is 0 from the fourth bad token on
    assert figures["prune_hits"] == 0.5  # 5 >= 6 - 1, 2 is not
    assert figures["overlap"] == pytest.approx((1 + 0.5 + 0.75 + 0.7 + 0.69) / 8)


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


def test_prune_measures_the_overlap_of_top_k_sets():
    z, p = draw(0, n=20, v=10)
    found = plug("overlap_decay", k=4).survey(Categorical.from_logits(z), Evidence(torch.zeros(20).long(), teacher=p))
    for a, b, share in zip(z, p.logp_NV, found["overlap"], strict=True):
        assert share == len(set(a.topk(4).indices.tolist()) & set(b.topk(4).indices.tolist())) / 4


# f-OPD


def fresh(log_rho: list[float], lengths: list[int], versions: list[int], step: int, **options) -> torch.Tensor:
    rows = batch(lengths, version_B=torch.tensor(versions))
    logq_N = torch.full((sum(lengths),), -1.0)
    seen = Evidence(rows.action_N, sampler_logp_N=logq_N - torch.tensor(log_rho))
    weight = plug("freshness", **{"xi": 0.0} | options)
    return of(weight, rows, weight.survey(Recorded(logq_N), seen), Moment(step=step))


def test_freshness_is_1_when_fresh_and_falls_with_age_and_drift():
    assert fresh([0.0] * 3, [1, 2], [4, 4], step=5).tolist() == [1.0] * 3
    by_age = fresh([0.0] * 5, [1] * 5, [4, 3, 2, 1, 0], step=5)
    close(by_age, torch.tensor([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]), 1e-6)
    for sign in (1, -1):
        by_drift = fresh([sign * d for d in (0.0, 0.1, 0.3, 1.0, 3.0)], [1] * 5, [4] * 5, step=5)
        assert all(a > b for a, b in itertools.pairwise(by_drift.tolist()))
        expected = [math.exp(-2 * math.sqrt(math.expm1(sign * d) - sign * d)) for d in (0.0, 0.1, 0.3, 1.0, 3.0)]
        close(
            fresh([sign * d for d in (0.0, 0.1, 0.3, 1.0, 3.0)], [1] * 5, [4] * 5, 5, alpha=2.0), torch.tensor(expected), 1e-5
        )
    row_mean = (math.expm1(1.0) - 1.0) / 2  # over the tokens of a row
    close(fresh([1.0, 0.0], [2], [4], 5), torch.full((2,), math.exp(-math.sqrt(row_mean))), 1e-6)


def test_freshness_cuts_at_xi_and_lag_only_leaves_the_drift_out():
    close(fresh([0.0] * 2, [1, 1], [4, 0], 5, xi=0.3), torch.tensor([0.7, 0.0]), 1e-6)
    close(fresh([2.0] * 2, [1, 1], [4, 3], 5, lag_only=True), torch.tensor([1.0, 0.5]), 1e-6)


def test_the_drift_estimates_the_divergence_from_the_sampler():
    """E over the sampler of what is measured is KL(sampler || student), exactly."""
    z, sampler = draw(1, v=9)
    q, action = Categorical.from_logits(z.expand(9, -1)), torch.arange(9)
    k3_V = plug("freshness").survey(q, Evidence(action, sampler_logp_N=sampler.logp_NV[0]))["k3"]
    mu_V = sampler.logp_NV[0].exp()
    close((mu_V * k3_V).sum(), (mu_V * (sampler.logp_NV[0] - z[0].log_softmax(-1))).sum())


# shares of the batch


@pytest.mark.parametrize(("n", "share"), [(10, 0.2), (11, 0.2), (1, 0.2), (7, 0.5), (30, 0.1), (100, 0.07), (5, 1.0)])
def test_exactly_the_share_is_kept_rounded_up(n, share):
    value_N = torch.randn(n, generator=torch.Generator().manual_seed(n))
    kept_N = top_share(value_N, share)
    count = -(-n * round(share * 100) // 100)
    assert kept_N.sum() == count and set(kept_N.tolist()) <= {0.0, 1.0}
    assert value_N[kept_N == 1].min() >= value_N.sort(descending=True).values[count - 1]
    assert top_share(torch.zeros(n), share).tolist() == [1.0] * count + [0.0] * (n - count)  # equals: the earlier


def test_reopold_keeps_the_most_uncertain_fifth():
    z, _ = draw(2, n=23)
    q, weight = Categorical.from_logits(z), plug("entropy_top", share=0.2)
    kept_N = of(weight, batch([20, 3]), weight.survey(q, Evidence(torch.zeros(23).long())))
    order = q.entropy().argsort(descending=True)
    assert kept_N.nonzero()[:, 0].sort().values.tolist() == order[:5].sort().values.tolist()  # ceil(.2 * 23)


def test_tip_keeps_the_confidently_wrong_and_entropy_alone_does_not():
    v = 8
    sure = lambda token: torch.eye(v, dtype=torch.float64)[token] * 12
    flat = torch.zeros(v, dtype=torch.float64)
    students = [sure(0), sure(0), flat, flat]  # confident and right, confident and wrong, uncertain twice
    z, p = torch.stack(students), Categorical.from_logits(torch.stack([sure(0), sure(1), flat, sure(2)]))
    q, evidence = Categorical.from_logits(z), Evidence(torch.zeros(4).long(), teacher=p)
    keep = lambda share, **options: of((w := plug("tip", share=share, **options)), batch([4]), w.survey(q, evidence)).tolist()
    assert keep(0.75) == [0, 1, 1, 1]
    assert keep(0.5, by="entropy") == [0, 0, 1, 1]
    found = plug("tip").survey(q, evidence)
    h = q.entropy() / math.log(v)
    d = JSD(0.5).term(q.logp_NV, p.logp_NV).sum(-1) / math.log(2)
    close(found["importance"], 1 - (1 - h) * (1 - d))
    assert ((found["importance"] >= -1e-12) & (found["importance"] <= 1 + 1e-12)).all()


def test_tips_random_control_keeps_as_many_and_others_at_each_step():
    w, rows = plug("tip", share=0.5, by="random"), batch([40])
    one, two = of(w, rows, moment=Moment(1, 3)), of(w, rows, moment=Moment(2, 3))
    assert one.sum() == two.sum() == 20 and not torch.equal(one, two)
    assert torch.equal(one, of(w, rows, moment=Moment(1, 3)))


# groups


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


def test_paced_weighs_nothing_at_0_and_1_and_most_in_the_middle():
    prompts = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    rewards = [0.0] * 4 + [1.0, 0.0, 0.0, 0.0] + [1.0, 1.0, 0.0, 0.0] + [1.0, 1.0, 1.0, 0.0] + [1.0] * 4
    weight_N, figures = plug("pass_rate").over_batch(batch([2] * 20, prompts, rewards), {}, Moment())
    weight_G = weight_N.view(5, 8)
    assert (weight_G == weight_G[:, :1]).all()
    raw = torch.tensor([0, 3 / 16, 4 / 16, 3 / 16, 0])
    close(weight_G[:, 0], raw / raw.mean(), 1e-6)
    assert figures["weighty_prompts"] == pytest.approx(3 / 5)
    skewed = of(plug("pass_rate", alpha=2.0, beta=1.0), batch([1] * 20, prompts, rewards)).view(5, 4)[:, 0]
    assert skewed[0] == skewed[4] == 0 and skewed[3] > skewed[2] > skewed[1]
    assert (of(plug("pass_rate"), batch([1] * 4, [0] * 4, [1.0] * 4)) == 0).all()  # no prompt to learn from


def test_kdrl_masks_the_correct_rows():
    rows = batch([2, 1, 3], rewards=[1.0, 0.0, 0.0])
    assert of(plug("outcome_is"), rows).tolist() == [0, 0, 1, 1, 1, 1]
    assert of(plug("outcome_is", which="correct"), rows).tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("seed", range(4))
def test_balance_leaves_as_many_correct_as_wrong_rows_of_each_mixed_prompt(seed):
    rewards = [1.0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1]
    rows = batch([2] * 12, [0] * 5 + [1] * 4 + [2] * 3, rewards)
    keep_B = of(plug("balance"), rows, moment=Moment(step=7, seed=seed)).view(12, 2)[:, 0]
    right = torch.tensor(rewards) == 1
    for at, kept in ((slice(0, 5), 1), (slice(5, 9), 1)):
        assert keep_B[at][right[at]].sum() == keep_B[at][~right[at]].sum() == kept
    assert (keep_B[9:] == 1).all()  # all correct: nothing to balance
    draws = [of(plug("balance"), rows, moment=Moment(step, seed)).tolist() for step in range(1, 9)]
    assert any(a != draws[0] for a in draws) and draws[6] == keep_B.repeat_interleave(2).tolist()


# places and single tokens


def test_places():
    rows = batch([3, 1, 2], ended_B=torch.tensor([True, True, False]))
    assert of(plug("not_end"), rows).tolist() == [1, 1, 0, 0, 1, 1]
    seen = Evidence(rows.action_N, step_N=rows.step_N)
    assert plug("prefix", length=2).weight_N(None, seen).tolist() == [1, 1, 0, 1, 1, 1]
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


def test_impossible_options_are_refused():
    for name, bad in (
        ("entropy_top", {"share": 0.0}),
        ("tip", {"share": 1.1}),
        ("prefix", {"length": 0}),
        ("importance", {"cap": 0.0}),
    ):
        with pytest.raises(ValueError, match="found"):
            plug(name, **bad)
