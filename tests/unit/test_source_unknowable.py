"""Answers that cannot be known from their prompts."""

from __future__ import annotations

from opd_steps.seeds import rng
from opd_steps.tasks.sources.arithmetic import Arithmetic
from opd_steps.tasks.sources.unknowable import Unknowable
from opd_steps.tasks.verifiers.exact import Exact

SUMS = Arithmetic(digits=1, modulus=10, terms=[4], step_noise=0.0, train=2000, test=400, ood=0)
SCORE = Exact(after="=").score


def test_marked_prompts_have_drawn_answers_and_the_others_their_own():
    plain, found = SUMS.rows(1), Unknowable(SUMS, share=0.4).rows(1)
    for split, rows in found.items():
        marked = [row["prompt"].startswith("?") for row in rows]
        assert [r["prompt"].removeprefix("?") for r in rows] == [r["prompt"] for r in plain[split]]
        assert [r for r, m in zip(rows, marked, strict=True) if not m] == [
            r for r, m in zip(plain[split], marked, strict=True) if not m
        ]
        assert all(SCORE(r["solution"], r["answer"]) for r in rows)
    marked = [(r, p) for r, p in zip(found["train"], plain["train"], strict=True) if r["prompt"][0] == "?"]
    assert 0.37 < len(marked) / 2000 < 0.43
    # ten answers: neither the sum nor the corpus text tells more than chance
    for chance in (sum(r["answer"] == p["answer"] for r, p in marked), sum(SCORE(r["corpus"], r["answer"]) for r, _ in marked)):
        assert 0.06 < chance / len(marked) < 0.14


def test_attempts_at_a_marked_prompt():
    row = next(r for r in Unknowable(SUMS, share=1.0).rows(1)["train"])
    source = Unknowable(SUMS)
    assert source.right_attempt(row, rng(0, "a")) == row["solution"]
    assert not SCORE(source.wrong_attempt(row, [str(d) for d in range(10)], rng(0, "a")), row["answer"])
