"""Policies side by side: every decision once, in order, however many are looked at at a time."""

from __future__ import annotations

import pytest
import torch

from opd_steps.evaluation import points
from tests.unit.analysis_toys import Prompts, context
from tests.unit.test_analyses_rollouts import random_bigram


@pytest.mark.parametrize(("logits", "chunk", "largest"), [(1 << 25, 1024, 200), (1 << 25, 7, 7), (40, 1024, 5), (3, 1024, 1)])
def test_no_more_log_probs_than_allowed_exist_at_once(monkeypatch, logits, chunk, largest):
    monkeypatch.setattr(points, "LOGITS", logits)
    a, b = random_bigram(1), random_bigram(2)
    rows = context(Prompts(30, lambda i, tokens: 1.0, token=lambda i: i % 6, vocab=8), model=a).rollouts("model", 2)
    parts = list(points.side_by_side(rows, {"model": a, "other": b}, micro_batch=16, chunk=chunk))
    assert 0 < max(len(q) for _, (q, _) in parts) <= largest
    assert [i for at, _ in parts for i in range(at.start, at.stop)] == list(range(len(rows.action_N)))
    whole = torch.cat([q.logp_NV for _, (q,) in points.side_by_side(rows, {"model": a})])
    assert torch.equal(torch.cat([q.logp_NV for _, (q, _) in parts]), whole)
