"""GRPO's batches: groups, their advantages, and DAPO's dynamic sampling (arXiv 2402.03300, 2503.14476)."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.asks import Asks
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds.rl import RlNode
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.outcome import trained_on
from opd_steps.seeds import rng
from opd_steps.steps.rl import group_batch, objective


class FakePool(Pool):
    """Prompt p is answered right with probability `chance[p]`, drawn from the row's own seed."""

    def __init__(self, chance: list[float]):
        self.chance = chance

    def __len__(self):
        return len(self.chance)

    def contexts(self, picks):
        return [[p] for p in picks]

    def rewards(self, rows):
        return [float(a[0]) for a in rows.actions]


class FakePolicy:
    def __init__(self, pool: FakePool):
        self.pool = pool

    def rollout(self, contexts, prompt_ids, seeds, version=0):
        draws = [int(rng(s).random() < self.pool.chance[p]) for s, p in zip(seeds, prompt_ids, strict=True)]
        return Trajectory(
            contexts,
            [torch.tensor([d, 1]) for d in draws],
            torch.tensor(list(prompt_ids)),
            ended_B=torch.ones(len(draws)).bool(),
        )


def options(**changes) -> dict:
    return merge(RlNode, {"kind": "rl", "policy": "p", "data": "d", "prompts": 8, "sampling": {"n": 4}, **changes}, "test")


def batch(chance: list[float], step: int = 1, **changes):
    pool = FakePool(chance)
    return group_batch(FakePolicy(pool), pool, step, 0, options(**changes))


def test_groups_are_rows_of_one_prompt_and_advantages_sum_to_zero_in_each():
    made = batch([0.5] * 20)
    groups = made.rows.prompt_B.view(8, 4)
    assert (groups == groups[:, :1]).all()
    torch.testing.assert_close(made.columns["outcome"].view(8, 4).sum(1), torch.zeros(8), atol=1e-5, rtol=0)


def test_without_dynamic_sampling_silent_groups_stay_and_are_counted():
    made = batch([0.0] * 10 + [0.5] * 10)
    assert len(made.rows) == 32
    assert 0 < made.metrics["silent_groups"] < 1


@pytest.mark.parametrize("step", range(1, 9))
def test_dynamic_sampling_never_yields_a_group_without_spread(step):
    made = batch([0.0] * 10 + [0.5] * 10 + [1.0] * 5, step, dynamic_sampling=True)
    rewards = made.rows.reward_B.view(8, 4)
    assert (rewards.std(1) > 0).all()
    assert (made.columns["outcome"] != 0).all()


def test_dynamic_sampling_gives_up_after_its_cap():
    with pytest.raises(UserError, match="3 generation batches gave 0 of 8 groups with spread"):
        batch([0.0] * 20, dynamic_sampling=True, max_refills=3)


def test_refills_and_what_is_trained_on_are_counted():
    chance = [0.0] * 10 + [0.5] * 10 + [1.0] * 5
    plain, refilled = batch(chance), batch(chance, dynamic_sampling=True)
    assert plain.metrics["refills"] == 0 and plain.metrics["silent_trained"] == plain.metrics["silent_groups"] > 0
    assert refilled.metrics["refills"] > 0 and refilled.metrics["silent_trained"] == 0
    generated = 8 * (refilled.metrics["refills"] + 1)
    assert refilled.metrics["silent_groups"] * generated <= generated - 8  # the others filled the step


def test_lengths_of_wrong_answers_by_hand():
    lengths, reward_B = (3, 1, 5, 2), torch.tensor([0.0, 1, 1, 1])
    rows = Trajectory([[0]] * 4, [torch.ones(n).long() for n in lengths], torch.tensor([0, 0, 1, 1]), reward_B=reward_B)
    group_B = torch.tensor([0, 0, 1, 1])
    assert trained_on(rows, group_B) == {"silent_trained": 0.5, "wrong_length": 3.0}
    right = rows.with_columns(reward_B=torch.ones(4))
    assert trained_on(right, group_B) == {"silent_trained": 1.0}  # no wrong answer, no length


def test_reward_range_and_length_penalty():
    made = batch([1.0] * 20, rewards=[-1.0, 1.0], divide_by_std=False)
    assert (made.columns["outcome"] == 0).all()
    spread = batch([0.5] * 20, rewards=[-1.0, 1.0], divide_by_std=False)
    plain = batch([0.5] * 20, divide_by_std=False)
    torch.testing.assert_close(spread.columns["outcome"], 2 * plain.columns["outcome"])


def test_a_batch_is_a_function_of_its_step():
    a, b, c = batch([0.5] * 20, 3), batch([0.5] * 20, 3), batch([0.5] * 20, 4)
    assert a.rows.prompt_B.tolist() == b.rows.prompt_B.tolist() != c.rows.prompt_B.tolist()
    assert torch.equal(a.columns["outcome"], b.columns["outcome"])


def test_the_anchor_asks_for_the_reference_only_when_it_weighs():
    assert objective(options()).asks() == {}
    assert objective(options(kl=0.04)).asks() == {"reference": Asks(sampled=True)}
