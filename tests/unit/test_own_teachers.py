"""The student as its own teacher: as it stands, as it started, and as the average of its past; with more in view, or not."""

from __future__ import annotations

import pytest
import torch

from tests.unit.opd_toys import Killed, curve, run

STUDENT, TEACHER = "model/student/seed0", "model/teacher/seed1"
TOLD = {"context": "demo"}  # else a student at its start has nothing to learn from itself


def taught(folder, weights, context=TOLD, model: str = "self", parent: str = STUDENT, **changes):
    """A run whose one teacher is named `own`."""
    teachers = {"own": {"model": model, "weights": weights, **context}}
    parents = {"teacher": None, "reference": None, "teachers.own.model": parent}
    return run(folder, parents=parents, teachers=teachers, method={"against": "own"}, **changes)


def same(one, other) -> bool:
    return one.metrics == other.metrics and all(torch.equal(one.weights[n], value) for n, value in other.weights.items())


def test_as_it_stands_it_has_nothing_to_say_to_itself(tmp_path):
    """Log-ratio 0 on its own samples, whatever the weights; so it has no gradient."""
    found = taught(tmp_path / "plain", "current", {})
    assert max(map(abs, curve(found.metrics, "log_ratio"))) < 1e-6 and max(curve(found.metrics, "grad_norm")) < 1e-4
    told = taught(tmp_path / "told", "current")
    assert min(map(abs, curve(told.metrics, "log_ratio"))) > 1e-3 and min(curve(told.metrics, "grad_norm")) > 1e-2


def test_as_it_started_it_is_the_node_that_it_starts_from(tmp_path):
    frozen = taught(tmp_path / "a", "frozen")
    assert same(frozen, run(tmp_path / "b", parents={"teacher": STUDENT, "reference": None}, context="demo"))


def test_its_average_is_that_of_the_short_form(tmp_path):
    ema = {"name": "ema", "rate": 0.3}
    own = taught(tmp_path / "a", ema)
    assert same(own, run(tmp_path / "b", parents={"teacher": STUDENT}, context="demo", teacher_source=ema))
    assert not same(own, taught(tmp_path / "c", {"name": "ema", "rate": 0.1}))


def test_an_average_of_the_last_alone_is_the_student_as_it_stands(tmp_path):
    last = taught(tmp_path / "a", {"name": "ema", "rate": 1.0})
    assert same(last, taught(tmp_path / "b", "current"))
    assert not same(last, taught(tmp_path / "c", "frozen"))


def test_a_named_teacher_is_the_short_form_by_another_name(tmp_path):
    """Also beside others: each has its own columns and its own context."""
    named = run(
        tmp_path / "a",
        parents={"teacher": None, "reference": None, "teachers.own.model": TEACHER},
        teachers={"own": {"context": "demo"}},
        method={"against": "own"},
    )
    assert same(named, run(tmp_path / "b", context="demo"))


def test_two_named_teachers_are_the_teacher_and_the_reference(tmp_path):
    anchor = {"estimator": "k3", "coef": 0.5}
    two = run(
        tmp_path / "a",
        parents={"teacher": None, "reference": None, "teachers.a.model": TEACHER, "teachers.b.model": "model/reference/seed2"},
        teachers={"a": {}, "b": {}},
        method={"against": "a", "add": [{"against": "b", **anchor}]},
    )
    assert same(two, run(tmp_path / "b", method={"add": [{"against": "reference", **anchor}]}))


def test_teachers_of_one_node_share_a_model_unless_it_moves(tmp_path):
    """The frozen one stays where it was while the average goes; told apart by what they say of the same rows."""
    parents = {"teacher": None, "reference": None, "teachers.still.model": STUDENT, "teachers.moves.model": STUDENT}
    teachers = {"still": {"model": "self"}, "moves": {"model": "self", "weights": {"name": "ema", "rate": 1.0}}}
    mask = {"where": [{"name": "more_likely_by", "first": "still", "second": "moves"}]}
    found = run(
        tmp_path, parents=parents, teachers=teachers, method={"estimator": "mle", "add": [{"against": "still", **mask}]}
    )
    shares = curve(found.metrics, "add0_share")
    assert shares[0] == 0 and max(shares[1:]) > 0


@pytest.mark.parametrize("weights", ["current", "frozen", {"name": "ema", "rate": 0.3}], ids=str)
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path, weights):
    whole = taught(tmp_path / "whole", weights)
    for kill_at in (4, 7):
        with pytest.raises(Killed):
            taught(tmp_path / "broken", weights, kill_at=kill_at)
    assert same(taught(tmp_path / "broken", weights), whole)
