"""Sampling each token from share * teacher + (1 - share) * student: log-probs, frequencies, and rows that depend on their seed alone."""

from __future__ import annotations

import pytest
import torch

from opd_steps.models.lm_policy import LMPolicy
from tests.unit.tiny import FakeTokenizer, qwen

KNOWN = 12


def pair(temperature: float = 1.0, layers: int = 1) -> tuple[LMPolicy, LMPolicy]:
    tokenizer, options = FakeTokenizer(KNOWN), {"temperature": temperature, "max_new_tokens": 5}
    student = LMPolicy(qwen(16, 0, layers=layers), tokenizer, **options)
    return student, LMPolicy(
        qwen(24, 1, layers=2).requires_grad_(False), tokenizer, **options
    )  # another padding, another depth


@pytest.mark.parametrize(("share", "temperature"), [(0.2, 1.0), (0.7, 0.6)])
def test_log_probs_are_the_mixtures(share, temperature):
    student, teacher = pair(temperature)
    contexts = [[1, 2, 3][: 1 + i % 3] for i in range(12)]
    rows = student.mixed_with(teacher, share).rollout(contexts, range(12), range(12))
    with torch.no_grad():
        q, p = (who.dist(rows).chunk(0, len(rows.action_N)) for who in (student, teacher))
    expected = (share * p.logp_NV.exp() + (1 - share) * q.logp_NV.exp()).log().gather(-1, rows.action_N[:, None])[:, 0]
    torch.testing.assert_close(rows.logp_N, expected, rtol=1e-4, atol=1e-5)
    assert student.companion is None  # the policy itself stays what it was


def test_frequencies_are_the_mixtures():
    student, teacher = pair()
    student.max_new_tokens = teacher.max_new_tokens = 1
    n = 20_000
    student.batch = n
    rows = student.mixed_with(teacher, 0.4).rollout([[1, 2]] * n, range(n), range(n))
    with torch.no_grad():
        first = rows.rows([0])
        q, p = (who.dist(first).chunk(0, 1).logp_NV[0].exp() for who in (student, teacher))
    mixture = 0.4 * p + 0.6 * q
    found = torch.bincount(rows.action_N, minlength=KNOWN) / n
    sigma = (mixture * (1 - mixture) / n).sqrt()
    assert ((found - mixture).abs() < 4.5 * sigma).all()
    for one in (p, q):
        assert ((found - one).abs() > 10 * sigma).any()  # neither alone


def test_a_row_depends_on_its_own_seed():
    student, teacher = pair()
    contexts, seeds = [[1, 2, 3][: 1 + i % 3] for i in range(9)], list(range(50, 59))
    whole = student.mixed_with(teacher, 0.5).rollout(contexts, range(9), seeds)
    student.batch = 2
    parted = student.mixed_with(teacher, 0.5).rollout(contexts, range(9), seeds)
    assert [a.tolist() for a in whole.actions] == [a.tolist() for a in parted.actions]
