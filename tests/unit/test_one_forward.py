"""Survey, masks and terms share one forward pass of each model; only a student whose batch is parted runs twice."""

from __future__ import annotations

from collections import Counter

import pytest

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.loop.objective import Objective
from opd_steps.objectives.stream import Moment
from opd_steps.process import ranks
from tests.unit.opd_toys import run
from tests.unit.test_loop_terms import WINDOW, policies, rows_of

MASK = {"name": "more_likely_by", "first": "teacher", "second": "reference"}
FULL = {"signal": "rkl", "support": "full", "estimator": "exact"}
SURVEYED = {  # every way to look first: a mask, a wide weight, and terms against two teachers
    **FULL,
    "where": [MASK],
    "weight": [{"name": "overlap_decay", "k": 4}],
    "add": [{**FULL, "against": "reference", "where": [{**MASK, "more": False}]}, {"transform": ["zscore"]}],
}
PLAIN = {**FULL, "add": [{"against": "reference", "estimator": "k3"}]}


class Counted:
    """A policy whose forward passes are counted by who is asked, and what for."""

    def __init__(self, policy, seen: Counter):
        self.policy, self.seen, self.asked = policy, seen, []
        self.model, self.device = policy.model, policy.device

    def dist(self, rows, role="student", asks: Asks = NOTHING):
        self.seen[role] += 1
        self.asked.append(asks)
        return self.policy.dist(rows, role, asks)


def passes(method: dict, micro_batch: int, names=("teacher", "reference")) -> tuple[Counter, dict[str, Counted]]:
    models, seen = policies(), Counter()
    rows = rows_of(models["student"])
    counted = {name: Counted(policy, seen) for name, policy in models.items()}
    term = Objective.from_method(merge(Method, method, "test"), WINDOW)
    teachers = {name: counted[name] for name in names}
    term.backward(counted["student"], rows, {}, teachers, micro_batch, Moment(window=WINDOW))
    return seen, counted


@pytest.mark.parametrize("method", [PLAIN, SURVEYED], ids=["plain", "surveyed"])
def test_of_a_whole_batch_each_model_runs_once(method):
    assert passes(method, 64)[0] == {"student": 1, "teacher": 1, "reference": 1}


def test_of_a_parted_one_teachers_run_once_and_a_student_that_is_looked_at_first_twice():
    parts = 3  # 9 rows
    assert passes(PLAIN, 3)[0] == {"student": parts, "teacher": parts, "reference": parts}
    assert passes(SURVEYED, 3)[0] == {"student": 2 * parts, "teacher": parts, "reference": parts}


def test_each_is_asked_for_the_sum_of_what_all_terms_want():
    _, counted = passes(SURVEYED, 64)
    assert counted["teacher"].asked == counted["reference"].asked == [Asks(sampled=True, full=True)]
    assert passes(PLAIN, 64)[1]["reference"].asked == [Asks(sampled=True)]


def test_who_is_not_asked_does_not_run():
    assert passes(FULL, 64)[0] == {"student": 1, "teacher": 1}
    assert passes({"estimator": "mle"}, 64)[0] == {"student": 1}


@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_step_of_a_training_runs_each_model_once_on_each_row(tmp_path, monkeypatch, minibatches):
    """Rows that were sampled are not read again for the log-probs that they were sampled with, though the loss divides by them."""
    calls, known = Counter(), ranks.hidden_states

    def counted(model, tokens_BL, *more, **how):
        calls[id(model)] += len(tokens_BL)
        return known(model, tokens_BL, *more, **how)

    monkeypatch.setattr(ranks, "hidden_states", counted)
    method = {"estimator": {"name": "pg", "ratio": "sampler"}, "baseline": "neg_kl"}
    run(tmp_path, steps=3, prompts=3, sampling={"n": 2}, minibatches=minibatches, micro_batch=64, method=method)
    assert sorted(calls.values()) == [3 * 3 * 2] * 2  # student and teacher
