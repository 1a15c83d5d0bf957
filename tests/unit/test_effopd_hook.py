"""EffOPD's extrapolation on a model of one weight: which candidates are tried, what is accepted, what is kept."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.hooks import Setting
from opd_steps.hooks.effopd import EffOPD
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory


class OneWeight:
    """A policy whose greedy answer is its weight; the pool rewards it by a function."""

    temperature = 1.0

    def __init__(self):
        self.model = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1) for name in ("mlp", "embed")})
        for p in self.model.parameters():
            torch.nn.init.zeros_(p)
        self.tried: list[float] = []

    def rollout(self, contexts, prompts, seeds, version):
        self.scored_at, self.seeds = self.temperature, seeds
        self.tried.append(self.model["mlp"].weight.item())
        actions = [torch.tensor([self.tried[-1]], dtype=torch.float64)] * len(contexts)
        return Trajectory(contexts, actions, torch.tensor(prompts))

    def train_to(self, value: float) -> None:
        with torch.no_grad():
            for p in self.model.parameters():
                p.fill_(value)


class Scored(Pool):
    def __init__(self, score):
        self.score = score

    def __len__(self) -> int:
        return 3

    def contexts(self, picks):
        return picks

    def rewards(self, rows):
        return [self.score(float(a)) for a in rows.actions]


def start(score, **options):
    policy = OneWeight()
    return policy, EffOPD(**options).make(Setting(policy, Scored(score), 0, Path()))


def event(policy, hook, step: int, value: float) -> tuple[float, dict]:
    policy.train_to(value)
    policy.tried, metrics = [], {}
    hook(step, policy, metrics)
    return policy.model["mlp"].weight.item(), metrics


def test_goes_on_along_the_update_while_the_score_does_not_fall():
    policy, hook = start(lambda w: -abs(w - 7))
    where, metrics = event(policy, hook, 1, 1.0)
    assert policy.tried == [1, 3, 5, 7, 9] and where == 7  # 1 + 2k; 9 is as good as 5, and worse than 7
    assert metrics == {"train/extrapolated": 3.0, "train/score_before": -6.0, "train/score_after": 0.0}
    assert policy.model["mlp"].bias.item() == policy.model["embed"].weight.item() == 1  # vectors and other modules stay
    assert (policy.scored_at, policy.temperature) == (0.0, 1.0)
    assert event(policy, hook, 3, 7.5) == (7.5, {}) and policy.tried == []  # no power of two
    where, metrics = event(policy, hook, 4, 8.0)
    assert policy.tried == [8, 10] and where == 8  # from the anchor 7: the accepted weights, not the trained ones
    assert metrics["train/extrapolated"] == 0


def test_a_plateau_is_crossed_unless_strict():
    policy, hook = start(lambda w: 1.0, candidates=3)
    assert event(policy, hook, 1, 1.0)[0] == 7 and policy.tried == [1, 3, 5, 7]
    policy, hook = start(lambda w: 1.0, strict=True)
    assert event(policy, hook, 1, 1.0)[0] == 1 and policy.tried == [1, 3]


def test_sampled_scores_have_a_seed_of_each_prompts_own_and_always_the_same():
    policy, hook = start(lambda w: w, temperature=0.7)
    event(policy, hook, 1, 1.0)
    first = policy.seeds
    event(policy, hook, 2, 20.0)
    assert policy.scored_at == 0.7 and policy.seeds == first and len(set(first)) == 3


def test_modules_by_name():
    policy, hook = start(lambda w: w, candidates=1, modules=["mlp", "embed"])
    event(policy, hook, 2, 1.0)
    assert policy.model["embed"].weight.item() == 3 and policy.model["embed"].bias.item() == 1


def test_the_anchor_survives_a_restart():
    policy, hook = start(lambda w: -abs(w - 7))
    event(policy, hook, 1, 1.0)
    again, resumed = start(lambda w: -abs(w - 7))
    resumed.load_state_dict(hook.state_dict())
    assert event(again, resumed, 2, 6.0) == event(policy, hook, 2, 6.0)
    assert again.tried == [6, 4]  # back along 6 - 7


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6), st.booleans())
def test_the_score_never_falls_at_an_event(scores, strict):
    policy, hook = start(lambda w: scores[round((w - 1) / 2)], strict=strict)
    where, metrics = event(policy, hook, 1, 1.0)
    assert metrics["train/score_after"] >= metrics["train/score_before"]
    assert metrics["train/score_after"] == scores[round((where - 1) / 2)]
