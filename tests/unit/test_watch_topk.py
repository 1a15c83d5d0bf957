"""The watching weight: its figures against plain loops, and a gradient that it leaves alone."""

from __future__ import annotations

import pytest
import torch

from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.weights.watch_topk import WatchTopk
from tests.unit.objectives_toys import V, draw
from tests.unit.tiny import FakeTokenizer, method, qwen


def test_figures_are_those_of_plain_loops():
    logits_NV, teacher = draw(3, n=20)
    student = Categorical.from_logits(logits_NV)
    found = WatchTopk(4).survey(student, Evidence(torch.zeros(20, dtype=torch.long), teacher=teacher))
    for n in range(20):
        q, p = student.logp_NV[n].exp().tolist(), teacher.logp_NV[n].exp().tolist()
        mine, theirs = (set(sorted(range(V), key=d.__getitem__)[-4:]) for d in (q, p))
        assert float(found["topk_mass"][n]) == pytest.approx(sum(q[v] for v in mine), abs=1e-10)
        assert float(found["topk_overlap"][n]) == pytest.approx(len(mine & theirs) / 4)
        assert float(found["shared_mass"][n]) == pytest.approx(sum(q[v] for v in mine & theirs), abs=1e-10)


def test_gradient_is_untouched_and_figures_are_drawn():
    tokenizer = FakeTokenizer(20)
    student = LMPolicy(qwen(24, 0), tokenizer, max_new_tokens=6)
    teacher = LMPolicy(qwen(24, 1).requires_grad_(False), tokenizer, max_new_tokens=6)
    rows = student.rollout([[1, 2, 3], [4, 5]] * 2, [0, 1, 2, 3], [0, 1, 2, 3], 0)
    grads = []
    for weight in ([], [{"name": "watch_topk", "k": 4}]):
        row = method(signal="rkl", support={"name": "student_topk", "k": 4}, estimator="stop_grad", weight=weight)
        stats = Objective.from_method(row, 6).backward(student, rows, {}, {"teacher": teacher})
        grads.append([p.grad.clone() for p in student.model.parameters()])
        student.model.zero_grad(set_to_none=True)
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert 0 < stats["shared_mass"] <= stats["topk_mass"] < 1 and 0 < stats["topk_overlap"] <= 1
