"""Terms about some of the decision points: what is left out counts for nothing, in denominators either."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.loop.objective import Objective
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from tests.unit.test_loop_terms import WINDOW, policies, rows_of

MODELS = policies()
ROWS = rows_of(MODELS["student"], 4, 2)
EXACT = {"signal": "rkl", "support": "full", "estimator": "exact"}


def mask(more: bool = True) -> dict:
    return {"where": [{"name": "more_likely_by", "first": "teacher", "second": "reference", "more": more}]}


def member_N() -> torch.Tensor:
    """Which decision points the teacher thinks more likely than the reference does."""
    logp = [
        MODELS[name].dist(ROWS).chunk(0, len(ROWS.action_N)).logp(ROWS.action_N).detach() for name in ("teacher", "reference")
    ]
    return logp[0] > logp[1]


def gradient(aggregate: str, micro_batch: int = 64, rows: Trajectory = ROWS, **options) -> tuple[torch.Tensor, dict]:
    term = Objective.from_method(merge(Method, {"aggregate": aggregate, **EXACT, **options}, "test"), WINDOW)
    teachers = {name: MODELS[name] for name in ("teacher", "reference")}
    stats = term.backward(MODELS["student"], rows, {}, teachers, micro_batch, Moment(window=WINDOW))
    flat = torch.cat([p.grad.flatten() for p in MODELS["student"].model.parameters()])
    MODELS["student"].model.zero_grad(set_to_none=True)
    return flat, stats


def by_hand(weight_N: torch.Tensor) -> torch.Tensor:
    """The gradient of sum_N weight_N KL_N by plain autograd over whole logits."""
    q, p = (MODELS[name].dist(ROWS).chunk(0, len(ROWS.action_N)).logp_NV for name in ("student", "teacher"))
    (weight_N * (q.exp() * (q - p.detach())).sum(-1)).sum().backward()
    flat = torch.cat([p.grad.flatten() for p in MODELS["student"].model.parameters()])
    MODELS["student"].model.zero_grad(set_to_none=True)
    return flat


def test_the_mask_splits_rows():
    shares = [float(part.float().mean()) for part in member_N().split(ROWS.length_B.tolist())]
    assert any(0 < share < 1 for share in shares) and len(set(ROWS.length_B.tolist())) > 1


@pytest.mark.parametrize("micro_batch", [1, 3, 64])
@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean", "window_mean", "seq_sum"])
def test_denominators_by_brute_force(aggregate, micro_batch):
    """token_mean: of the tokens that count; seq_mean: of each row's; the rows themselves all count."""
    member, rows = member_N(), len(ROWS)
    count_B = torch.stack([part.sum() for part in member.split(ROWS.length_B.tolist())])
    divisor_N = {
        "token_mean": member.sum(),
        "seq_mean": (rows * count_B.clamp(min=1))[ROWS.owner_N],
        "window_mean": torch.tensor(rows * WINDOW),
        "seq_sum": torch.tensor(rows),
    }[aggregate]
    expected = by_hand(member / divisor_N)
    found, stats = gradient(aggregate, micro_batch, **mask())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert stats["share"] == pytest.approx(float(member.float().mean()))


@pytest.mark.parametrize("aggregate", ["token_mean", "window_mean", "seq_sum"])
def test_two_complementary_terms_are_the_whole(aggregate):
    """With means over tokens each is weighed by its share of them; the other two divide by constants."""
    share = float(member_N().float().mean()) if aggregate == "token_mean" else None
    coef = (1.0, 1.0) if share is None else (share, 1 - share)
    whole, all_stats = gradient(aggregate)
    add = [{**EXACT, **mask(False), "coef": coef[1]}]
    both, stats = gradient(aggregate, **mask(), coef=coef[0], add=add)
    torch.testing.assert_close(both, whole, rtol=1e-4, atol=1e-6)
    assert stats["loss"] == pytest.approx(all_stats["loss"], rel=1e-5)
    assert stats["share"] + stats["add0_share"] == pytest.approx(1.0)
    one, other = gradient(aggregate, **mask())[0], gradient(aggregate, **mask(False))[0]
    torch.testing.assert_close(coef[0] * one + coef[1] * other, whole, rtol=1e-4, atol=1e-6)


def test_figures_are_means_over_what_counts():
    _, stats = gradient("token_mean", **mask())
    q, p = (MODELS[name].dist(ROWS).chunk(0, len(ROWS.action_N)).logp_NV.detach() for name in ("student", "teacher"))
    kl_N = (q.exp() * (q - p)).sum(-1)
    assert stats["divergence"] == pytest.approx(float(kl_N[member_N()].mean()), rel=1e-5)
    assert stats["loss"] == pytest.approx(stats["divergence"], rel=1e-5)


def test_all_masks_of_a_term_hold():
    """With its complement nothing is left: no gradient, no figure, no division by zero."""
    found, stats = gradient("token_mean", where=[*mask()["where"], *mask(False)["where"]])
    assert (found == 0).all() and stats["loss"] == stats["divergence"] == 0


def test_weights_look_at_the_whole_batch_and_masks_at_the_same(micro_batch=3):
    """A masked term with a wide weight is split over micro-batches as it is not."""
    more = {"weight": [{"name": "entropy_top", "share": 0.5}]}
    torch.testing.assert_close(
        gradient("seq_mean", micro_batch, **mask(), **more)[0], gradient("seq_mean", **mask(), **more)[0], rtol=1e-4, atol=1e-6
    )
