"""A new task beside an old one."""

from __future__ import annotations

import pytest

from opd_steps.errors import UserError
from opd_steps.tasks.sources.arithmetic import Arithmetic
from opd_steps.tasks.sources.with_old import WithOld

NEW = Arithmetic(digits=2, modulus=10, terms=[2], train=50, test=20, ood=5)
OLD = Arithmetic(digits=1, modulus=10, terms=[3], train=50, test=30, ood=5)


def test_the_old_tasks_test_rows_are_the_ood_split():
    found, old = WithOld(NEW, OLD).rows(3), OLD.rows(3)["test"]
    assert [r["prompt"] for r in found["ood"]] == [r["prompt"] for r in old] and len(found["train"]) == 50
    assert [r["id"] for r in found["ood"]] == [f"ood-{i}" for i in range(30)]
    assert found["test"] == NEW.rows(3)["test"]


def test_prompts_of_the_old_test_are_not_trained_on():
    found = WithOld(OLD, Arithmetic(digits=1, modulus=10, terms=[3], train=900, test=50, ood=5)).rows(3)
    held = {r["prompt"] for split in ("test", "ood") for r in found[split]}
    assert held.isdisjoint(r["prompt"] for r in found["train"])


def test_some_old_rows_may_stay_in_train():
    found = WithOld(NEW, OLD, keep=10).rows(3)
    assert [r["prompt"] for r in found["train"][50:]] == [r["prompt"] for r in OLD.rows(3)["train"][:10]]
    assert found["test"] == NEW.rows(3)["test"]
    with pytest.raises(UserError, match="expected 0 to 50"):
        WithOld(NEW, OLD, keep=51).rows(3)
