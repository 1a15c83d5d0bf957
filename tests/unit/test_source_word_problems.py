"""Word problems: every one read again by a reader of its own, and solved."""

import re

import pytest

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.sources.word_problems import WordProblems
from opd_steps.tasks.verifiers.numeric import Numeric

SMALL = {"train": 300, "test": 40, "ood": 20}
MEANING = {"+": "gives \\w+ (\\d+) more|buys|another", "-": "sells|loses|to a neighbour", "*": "times as many"}
DO = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


def solved(prompt: str) -> list[tuple[int, str, int, int]]:
    """(what is had, operator, number, what is had then) of each sentence between the first and the question."""
    first, *middle, question = re.findall(r"[^.?]+[.?]", prompt)
    who, have, things = re.fullmatch(r"(\w+) has (\d+) (\w+)\.", first).groups()
    assert question.strip() == f"How many {things} does {who} have now?"
    total, steps = int(have), []
    for sentence in middle:
        (operator,) = (o for o, words in MEANING.items() if re.search(words, sentence))
        (number,) = map(int, re.findall(r"\d+", sentence))
        steps.append((total, operator, number, total := DO[operator](total, number)))
    return steps


@pytest.mark.parametrize(
    "options",
    [{}, {"steps": [1, 2, 4], "ood_steps": [6]}, {"most": 9, "ceiling": 30}, {"operators": ["-"]}, {"operators": ["+", "*"]}],
)
def test_every_problem_is_solved_right_within_its_bounds(options):
    source = WordProblems(**SMALL, **options)
    parts = source.rows(3)
    assert parts == source.rows(3) != source.rows(4)
    assert {split: len(rows) for split, rows in parts.items()} == SMALL
    prompts = [r["prompt"] for rows in parts.values() for r in rows]
    assert len(set(prompts)) == len(prompts)
    for split, rows in parts.items():
        for r in rows:
            steps = solved(r["prompt"])
            assert len(steps) == r["meta"]["steps"]
            assert len(steps) in (source.ood_steps if split == "ood" else source.steps)
            assert {step[1] for step in steps} <= set(source.operators)
            assert all(1 <= after <= source.ceiling and 2 <= number <= source.most for _, _, number, after in steps)
            assert r["solution"] == "".join(f"{a} {o} {b} = {c}\n" for a, o, b, c in steps) + f"#### {steps[-1][-1]}"
            assert r["answer"] == str(steps[-1][-1])


def test_numeric_reads_the_answer_behind_the_hashes():
    source, draw = WordProblems(**SMALL), rng(0, "test")
    rows = source.rows(0)["train"]
    answers = sorted({r["answer"] for r in rows})
    for r in rows:
        assert Numeric().score(source.right_attempt(r, draw), r["answer"]) == 1
        assert Numeric().score(source.wrong_attempt(r, answers, draw), r["answer"]) == 0
        assert not Numeric().unreadable(r["answer"])


def test_all_operators_and_sentences_are_told():
    told = " ".join(r["prompt"] for r in WordProblems(**SMALL).rows(0)["train"])
    for words in ("gives", "buys", "another", "sells", "loses", "neighbour", "trades", "collecting"):
        assert words in told


@pytest.mark.parametrize(
    ("most", "message"), [({"most": 3, "ceiling": 3, "operators": ["*"]}, "only 0"), ({"most": 3}, "only")]
)
def test_too_many_rows_are_refused(most, message):
    with pytest.raises(UserError, match=f"{message}.*ask for fewer rows"):
        WordProblems(**most, train=100_000).rows(0)
