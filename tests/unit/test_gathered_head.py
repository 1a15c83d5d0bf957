"""The whole head of a frozen model that is cut among processes: there once, however many passes look at it."""

from __future__ import annotations

import pytest
import torch

from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from tests.unit.tiny import qwen
from tests.unit.tiny_results import char_tokenizer


@pytest.fixture(autouse=True)
def cut(monkeypatch):
    """As if weights were cut among processes: what is made whole of its parts is a tensor of its own."""
    monkeypatch.setattr(ranks, "is_cut", lambda tensor: True)
    monkeypatch.setattr(ranks, "full", torch.clone)


def policy(trains: bool) -> LMPolicy:
    return LMPolicy(qwen(tie=False).requires_grad_(trains), char_tokenizer())


def head(of: LMPolicy) -> torch.Tensor:
    rows = Trajectory([[4, 5]], [torch.tensor([6, 7])], torch.zeros(1, dtype=torch.long))
    return of.dist(rows).weight_VD


def test_a_frozen_one_is_shared_while_somebody_holds_it():
    teacher = policy(trains=False)
    one, two = head(teacher), head(teacher)
    assert one is two
    del one, two
    assert teacher._gathered[0]() is None  # nobody holds it, nobody keeps it


def test_a_changed_one_is_gathered_anew_and_one_that_trains_each_time():
    teacher, student = policy(trains=False), policy(trains=True)
    before = head(teacher)
    with torch.no_grad():
        teacher.model.get_output_embeddings().weight.mul_(2)  # a moving average, after the student's update
    after = head(teacher)
    assert after is not before and after.equal(before * 2)
    assert head(student) is not head(student)
