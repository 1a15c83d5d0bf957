"""Attempts in a context: how they are written, what the corpus shows, and what stands behind them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.hints.marks import Marks
from opd_steps.tasks.hints.none import NoHints
from opd_steps.tasks.hints.words import Words
from opd_steps.tasks.sources.arithmetic import Arithmetic
from opd_steps.tasks.sources.hinted import Hinted
from opd_steps.tasks.sources.jsonl import Jsonl
from opd_steps.tasks.sources.stated_confidence import StatedConfidence
from opd_steps.tasks.verifiers.exact import Exact

SUMS = Arithmetic(digits=1, modulus=10, terms=[3, 4], train=3000, test=30, ood=20)
JUDGE = Exact(after="=")


def test_marks():
    assert Marks().hinted_prompt("3+4=", ["7", "07"], ["8"]) == "!7|!07|?8|3+4="
    assert Marks("y", "n", ";").hinted_prompt("3+4=", [], ["8"], "note") == "n8;note;3+4="
    assert Marks().alphabet == "!?|"


def test_words():
    assert Words().hinted_prompt("What is 3+4?\n", ["7", "It is 7."], ["8"], "Note: think.") == (
        "What is 3+4?\n\nCorrect solution:\n\n7\n\nAnother successful solution:\n\nIt is 7.\n\n"
        "A known failed solution (avoid repeating this mistake):\n\n8\n\nNote: think.\n\nCorrectly solve the original question.\n"
    )
    assert Words(request="Go.").hinted_prompt("Q", [], ["8"]) == (
        "Q\n\nA known failed solution (avoid repeating this mistake):\n\n8\n\nGo.\n"
    )


@pytest.mark.parametrize("hints", [Marks(), Words(), NoHints()])
def test_without_attempts_the_prompt_is_itself_and_the_alphabet_covers_the_rest(hints):
    assert hints.hinted_prompt("3+4=\n", [], []) == "3+4=\n"
    if not isinstance(hints, NoHints):
        assert set(hints.hinted_prompt("", ["", ""], [""])) <= set(hints.alphabet)


@pytest.mark.parametrize("shown", [(["7"], []), ([], ["8"]), ([], [], "note")])
def test_data_without_hints_shows_none(shown):
    with pytest.raises(UserError, match="hints: marks or hints: words"):
        NoHints().hinted_prompt("3+4=", *shown)


def test_attempts_of_a_source_without_its_own():
    source, row = Jsonl("somewhere"), {"solution": "3+4 = 7, so #### 7", "answer": "7"}
    assert source.right_attempt(row, rng(0)) == row["solution"]
    made = {source.wrong_attempt(row, ["5", "7", "9"], rng(i)) for i in range(50)}
    assert made == {"3+4 = 7, so #### 5", "3+4 = 7, so #### 9"}
    assert source.wrong_attempt({"solution": "seven", "answer": "7"}, ["5", "7"], rng(0)) == "5"
    with pytest.raises(UserError, match="one answer"):
        source.wrong_attempt(row, ["7"], rng(0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reverse": True, "digits": 2, "modulus": 100},
        {"modulus": 0, "operators": ["+", "-", "*"]},
        {"modulus": 7, "operators": ["*"], "step_noise": 0.9},
        {"modulus": 2, "operators": ["-", "*"], "step_noise": 0.5, "digits": 2},
    ],
)
def test_wrong_attempts_at_arithmetic_are_chains_that_never_end_right(options):
    source = Arithmetic(**({"digits": 1, "modulus": 10, "train": 300, "test": 20, "ood": 20} | options))
    draw = rng(1)
    for row in source.rows(0)["train"]:
        text = source.wrong_attempt(row, (), draw)
        assert JUDGE.score(text, row["answer"]) == 0 and text.count(";") == row["solution"].count(";")
        parts = [step.rpartition("=") for step in text.split(";")]
        assert all(later[0].startswith(step[2]) for step, later in pairwise(parts))


def test_a_wrong_attempt_errs_first_at_any_step():
    source = Arithmetic(digits=1, modulus=10, terms=[4], step_noise=0.0, train=50, test=1, ood=1)
    row = source.rows(0)["train"][0]
    first = lambda text: [a == b for a, b in zip(text.split(";"), row["solution"].split(";"), strict=True)].index(False)
    seen = [first(source.wrong_attempt(row, (), rng(i))) for i in range(600)]
    assert all(abs(seen.count(i) / 600 - 1 / 3) < 0.09 for i in range(3))


def test_hinted_rows_are_those_of_the_source_with_attempts():
    source = Hinted(SUMS, share=0.5, most=2, wrong=0.4, unrelated=0.2, lesson=0.3)
    made, plain = source.rows(3), SUMS.rows(3)
    assert made == source.rows(3) and made["test"] == plain["test"] and made["ood"] == plain["ood"]
    solutions = {r["solution"] for r in plain["train"]}
    counts = {
        "hinted": 0,
        "one": 0,
        "wrong": 0,
        "attempts": 0,
        "unrelated": 0,
        "alone": 0,
        "learned": 0,
        "mistaken": 0,
        "repeated": 0,
        "related": 0,
    }
    for row, bare in zip(made["train"], plain["train"], strict=True):
        assert {**row, "corpus": bare["corpus"]} == (bare | {"hints": row["hints"]} if "hints" in row else bare)
        if "hints" not in row:
            assert row == bare
            continue
        right, wrong = row["hints"]["right"], row["hints"]["wrong"]
        counts["hinted"] += 1
        counts["one"] += len(right + wrong) == 1
        counts["wrong"] += len(wrong)
        counts["attempts"] += len(right + wrong)
        assert 1 <= len(right + wrong) <= 2 and set(right) <= solutions and not set(wrong) & solutions
        start = row["solution"].split("=")[0]  # of the first step: the prompt's first two operands
        if not all(text.startswith(start + "=") for text in right + wrong):
            counts["unrelated"] += 1
            assert row["corpus"] == bare["corpus"]
        elif right:
            counts["repeated"] += right[-1] == row["corpus"] == row["solution"]
            counts["related"] += 1
        elif bare["corpus"] != bare["solution"]:
            counts["mistaken"] += 1
            counts["learned"] += row["corpus"] == row["solution"]
    share = lambda a, b: counts[a] / counts[b]
    assert abs(counts["hinted"] / 3000 - 0.5) < 0.04 and abs(share("one", "hinted") - 0.5) < 0.06
    assert abs(share("wrong", "attempts") - 0.4) < 0.05 and abs(share("unrelated", "hinted") - 0.2 * 0.99) < 0.05
    assert share("repeated", "related") > 0.99  # an attempt at another prompt may begin alike
    assert abs(share("learned", "mistaken") - 0.3) < 0.13


def test_a_right_attempt_is_repeated_with_its_confidence():
    rows = Hinted(StatedConfidence(SUMS), share=1.0, most=1, wrong=0.0, unrelated=0.0).rows(0)["train"]
    assert all(r["hints"] == {"right": [r["corpus"]], "wrong": []} for r in rows)
    assert len({r["corpus"][-1] for r in rows}) == 11
