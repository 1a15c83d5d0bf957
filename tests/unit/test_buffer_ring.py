"""Rollouts of several ages: a ring, whose every step mixes them, and those of one step off, whoever samples."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from opd_steps.loop.buffer import RolloutRing, RolloutsAhead
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.trajectory import Trajectory

PROMPTS, SAMPLES, AGES = 6, 2, 3


def make(step: int, version: int) -> Batch:
    """Rows whose one action tells their batch and prompt."""
    prompts = [p for p in range(PROMPTS) for _ in range(SAMPLES)]
    rows = Trajectory(
        [[0]] * len(prompts),
        [torch.tensor([100 * step + p]) for p in prompts],
        torch.tensor(prompts),
        [torch.zeros(1)] * len(prompts),
        torch.zeros(len(prompts)),
        torch.full((len(prompts),), version),
        torch.ones(len(prompts), dtype=torch.bool),
    )
    return Batch(rows)


def run(steps: int, stale_after: int | None = None) -> list[Batch]:
    ring, out = RolloutRing(make, AGES, 1, "freshness", 0.5), []
    for step in range(1, steps + 1):
        out.append(ring.batch(step))
        ring(step, None, {"train/freshness": 0.0 if step == stale_after else 1.0})
    return out


def test_every_step_mixes_all_ages_and_whole_groups():
    for step, batch in enumerate(run(8), 1):
        assert len(batch.rows) == PROMPTS * SAMPLES
        assert set(Counter(batch.rows.prompt_B.tolist()).values()) == {SAMPLES}
        ages = Counter((step - 1 - batch.rows.version_B).tolist())
        if step >= AGES:
            assert ages == {0: 4, 1: 4, 2: 4} and batch.metrics["age"] == 1
        assert batch.metrics["refilled"] == (step == 1)


def test_each_rollout_is_trained_on_once():
    seen = Counter(int(a) for batch in run(9) for a in batch.rows.action_N)
    assert set(seen.values()) == {SAMPLES}
    whole = [made for made in range(AGES, 10) if all(100 * made + p in seen for p in range(PROMPTS))]
    assert whole == list(range(AGES, 10))  # every batch that had time to be used up


def test_a_stale_ring_is_filled_anew():
    batches = run(5, stale_after=3)
    assert [b.metrics["refilled"] for b in batches] == [1, 0, 0, 1, 0]
    assert batches[3].metrics["age"] == 0 and set(batches[3].rows.version_B.tolist()) == {3}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_one_step_off_each_step_has_rows_of_the_weights_before(elsewhere):
    """Made before the update, or begun before it and waited for behind it; never for a step that does not come."""
    happened = []

    def making(step: int, version: int) -> Batch:
        happened.append(("make", step, version))
        return make(step, version)

    def begin(step: int, version: int) -> bool:
        happened.append(("begin", step, version))
        return elsewhere

    ahead = RolloutsAhead(making, begin, 3)
    for step in (1, 2, 3):
        batch = ahead.batch(step)
        assert set(batch.rows.version_B.tolist()) == {max(step - 2, 0)} and batch.rows.action_N[0] == 100 * step
        assert batch.metrics["age"] == min(step - 1, 1) and batch.metrics["refilled"] == (step == 1)
        happened.append("update")
        ahead(step, None, {})
    second, third = ("make", 2, 0), ("make", 3, 1)
    early, late = ([], [second]) if elsewhere else ([second], [])
    expected = [("make", 1, 0), ("begin", 2, 0), *early, "update", *late]
    early, late = ([], [third]) if elsewhere else ([third], [])
    assert happened == [*expected, ("begin", 3, 1), *early, "update", *late, "update"]
