"""Prefix Teach's weight: rows are taught up to where the teacher's margin falls, and there alone the gradient differs."""

from __future__ import annotations

import math

import pytest
import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.change_point import release_point, teacher_margin
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights.change_point import ChangePoint


def rows(*lengths: int) -> Trajectory:
    return Trajectory([[0]] * len(lengths), [torch.zeros(n, dtype=torch.long) for n in lengths], torch.arange(len(lengths)))


def margins(*series: list[float]) -> dict:
    return {"margin": torch.tensor([x for row in series for x in row])}


def test_margin_is_the_teachers_within_what_the_student_considers():
    p = Categorical(torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log())
    q = Categorical(torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log())  # its top 2: tokens 0 and 2
    assert float(teacher_margin(q, p, 2)) == pytest.approx(math.log(0.4 / 0.2))
    assert float(teacher_margin(q, p, 4)) == pytest.approx(math.log(0.4 / 0.3))
    survey = ChangePoint(k=2).survey(q, Evidence(torch.tensor([1]), teacher=p))
    assert float(survey["margin"]) == pytest.approx(math.log(2))


def test_blocks():
    series = torch.tensor([3.0, 1.0] * 3 + [1.0, -1.0] * 3 + [0.0])  # means of two: 2 2 2 0 0 0 0
    assert release_point(series, 2) == 6
    assert release_point(series, 13) is None  # one block
    assert release_point(series[:0], 2) is None


def test_rows_are_taught_up_to_their_own_fall():
    falling, steady, short = [2.0] * 4 + [0.0] * 3, [1.0] * 7, [2.0, 0.0]
    weight, figures = ChangePoint(block=1).over_batch(rows(7, 7, 2), margins(falling, steady, short), Moment())
    assert weight.tolist() == [1] * 4 + [0] * 3 + [1] * 7 + [1] * 2
    assert figures == {"released": pytest.approx(1 / 3), "taught": pytest.approx(13 / 16)}


def test_options():
    series = margins([2.0, 2.0, 0.0, 0.0, 0.1])
    taught = lambda **options: ChangePoint(block=1, **options).over_batch(rows(5), series, Moment())[1]["taught"]
    assert taught() == 1 and taught(least=2) == pytest.approx(0.4) and taught(least=2, drop=3.0) == 1
