"""Judges beside the task's own: what they make of rewards, and who hears of it."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config import plugs
from opd_steps.judges.overlong import Overlong
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from tests.unit.opd_toys import Killed, curve, run

OUTCOME = {"signal": "outcome", "divide_by_std": False}
LONG = {"sampling": {"n": 4, "max_new_tokens": 6}, "method": OUTCOME}


def bench(window: int) -> Bench:
    return Bench({}, {}, None, window, 0)


def rows(lengths: list[int], rewards: list[float]) -> Trajectory:
    return Trajectory(
        [[1]] * len(lengths),
        [torch.zeros(n, dtype=torch.long) for n in lengths],
        torch.arange(len(lengths)),
        reward_B=torch.tensor(rewards),
    )


def test_overlong_by_hand():
    """0 up to 8 - 4 tokens, then 1/4 less for each, -1 at 8; on top of what the task said."""
    judged, figures = Overlong(buffer=4).judge(rows([1, 4, 5, 6, 7, 8, 8], [1, 0, 0, 0, 1, 0, 1]), bench(8))
    assert judged.reward_B.tolist() == [1, 0, -0.25, -0.5, 0.25, -1, 0] and figures == {}
    assert judged.length_B.tolist() == [1, 4, 5, 6, 7, 8, 8]


def test_a_judge_is_built_from_its_options():
    assert plugs.load("judges", {"name": "overlong", "buffer": 3}) == Overlong(3)


def test_advantages_hear_of_it_and_the_curve_of_rewards_stays_the_tasks(tmp_path):
    plain, judged = run(tmp_path / "a", **LONG), run(tmp_path / "b", judges=[{"name": "overlong", "buffer": 6}], **LONG)
    assert curve(judged.metrics, "reward")[:3] == curve(plain.metrics, "reward")[:3]
    assert curve(plain.metrics, "length")[:3] == [6, 6, 5.75]  # samples of one length are no group that the penalty tells apart
    losses = curve(plain.metrics, "loss"), curve(judged.metrics, "loss")
    assert losses[0][:2] == losses[1][:2] and losses[0][2] != losses[1][2]


def test_the_budget_is_that_of_the_step(tmp_path):
    """A controller that sets the length moves the penalty with it: within `buffer` of the budget, however long that is."""
    grows = [{"name": "linear", "sets": "sampling.max_new_tokens", "first": 2, "last": 6}]
    seen = []
    judge = Overlong.judge

    def spy(self, rows, bench):
        seen.append(bench.window)
        return judge(self, rows, bench)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Overlong, "judge", spy)
        found = run(tmp_path, judges=["overlong"], controllers=grows, **LONG)
    assert seen == curve(found.metrics, "max_new_tokens") == [2, 2, 3, 3, 4, 4, 5, 5]


def test_judged_twice_is_judged_by_both(tmp_path):
    once = run(tmp_path / "a", judges=[{"name": "overlong", "buffer": 6}], **LONG)
    twice = run(tmp_path / "b", judges=[{"name": "overlong", "buffer": 6}] * 2, **LONG)
    assert curve(once.metrics, "loss")[:2] == curve(twice.metrics, "loss")[:2]
    assert curve(once.metrics, "loss")[2] != curve(twice.metrics, "loss")[2]


@pytest.mark.parametrize("buffer", [{}, {"batches": 2, "passes": 2}], ids=str)
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path, buffer):
    """Rows that a buffer keeps are judged at each use, and never twice over."""
    options = LONG | {"judges": [{"name": "overlong", "buffer": 6}], "buffer": buffer}
    whole = run(tmp_path / "whole", **options)
    with pytest.raises(Killed):
        run(tmp_path / "broken", 4, **options)
    resumed = run(tmp_path / "broken", **options)
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())
