"""Stated confidences: written, read, replaced; the source that states them and the verifier that takes them off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.seeds import rng
from opd_steps.tasks.confidence import MARKS, split, state
from opd_steps.tasks.sources.arithmetic import Arithmetic
from opd_steps.tasks.sources.stated_confidence import StatedConfidence
from opd_steps.tasks.verifiers.exact import Exact
from opd_steps.tasks.verifiers.json_ranking import JsonRanking
from opd_steps.tasks.verifiers.with_confidence import WithConfidence

SUMS = Arithmetic(digits=1, modulus=10, terms=[4], train=4000, test=20, ood=20)
MARK, WORDS = WithConfidence(Exact(after="=")), WithConfidence(Exact(after="="), "words")


def test_marks_are_the_tenths():
    assert len(MARKS) == 11
    for i, mark in enumerate(MARKS):
        assert state(i / 10, "mark") == mark and split("3+4=7" + mark, "mark") == ("3+4=7", i / 10)


@pytest.mark.parametrize(("value", "mark"), [(0.04, "A"), (0.05, "B"), (0.149, "B"), (0.625, "G"), (0.94, "J"), (0.95, "K")])
def test_a_value_goes_to_the_nearest_mark(value, mark):
    assert MARK.restate("3+4=7K", value) == "3+4=7" + mark


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_what_is_no_confidence_cannot_be_stated(value):
    with pytest.raises(ValueError, match="between 0 and 1"):
        MARK.restate("7", value)


@pytest.mark.parametrize(
    ("text", "body", "value"),
    [
        ("3+4=7\nConfidence: 0.75", "3+4=7", 0.75),
        ("3+4=7\nconfidence: 1\n", "3+4=7", 1.0),
        ("3+4=7 Confidence: .5.", "3+4=7 ", 0.5),
        ("Confidence: 0.2\n3+4=7\nConfidence: 0.75", "Confidence: 0.2\n3+4=7", 0.75),
        ("Confidence: 0.75\n3+4=7", "Confidence: 0.75\n3+4=7", None),
        ("3+4=7\nConfidence: 75", "3+4=7\nConfidence: 75", None),
        ("3+4=7\nConfidence: 75%", "3+4=7", 0.75),
        ("3+4=7\n**Confidence:** 0.75", "3+4=7", 0.75),
        ("<think>3+4=7\nConfidence: 0.75", "<think>3+4=7\nConfidence: 0.75", None),
        ("3+4=7\nConfidence: high", "3+4=7\nConfidence: high", None),
        ("3+4=7", "3+4=7", None),
        ("", "", None),
    ],
)
def test_words(text, body, value):
    assert split(text, "words") == (body, value)


@pytest.mark.parametrize(
    ("text", "value", "score"),
    [
        ("3+4=7K", 1.0, 1),
        ("3+4=7A ", 0.0, 1),
        ("3+4=6K", 1.0, 0),
        ("3+4=7", None, 1),
        ("3+4=7KK", 1.0, 0),
        ("K", 1.0, 0),
        ("", None, 0),
    ],
)
def test_verifier(text, value, score):
    assert (MARK.confidence(text), MARK.score(text, "7")) == (value, score)


@given(st.text("0123456789+=;", max_size=12), st.integers(0, 10), st.integers(0, 10))
def test_restating_changes_the_confidence_alone(body, old, new):
    for judge, style in ((MARK, "mark"), (WORDS, "words")):
        text = judge.restate(body + state(old / 10, style), new / 10)
        assert judge.confidence(text) == new / 10 and judge.score(text, "7") == Exact(after="=").score(body, "7")
        assert text == body + state(new / 10, style) == judge.restate(body, new / 10)
        assert set(text) <= set(body) | set(judge.alphabet)


def test_the_note_asks_for_the_value_where_the_style_has_words():
    assert MARK.instruction(0.625) == "" and "0.62" in WORDS.instruction(0.625)


def test_measures_are_over_stating_samples_and_include_those_of_the_inner_verifier():
    judge = WithConfidence(JsonRanking())
    texts = ['["b"]K', '["a"]F', '["b"]', "["]
    found = judge.measure(texts, ['["b"]'] * 4, [judge.score(t, '["b"]') for t in texts])
    assert found == {
        "stated": 0.5,
        "confidence": 0.75,
        "overconfidence": 0.25,
        "brier": 0.125,
        "ece": 0.25,
        "spr": 1.0,
        "parsed": 0.75,
        "avg_given_parsed": pytest.approx(2 / 3),
        "ndcg_at_1": 0.5,
    }
    assert set(found) == {*judge.METRICS, *JsonRanking.METRICS}
    assert MARK.measure(["7"], ["7"], [1.0]) == {"stated": 0.0}


@pytest.mark.parametrize("style", ["mark", "words"])
def test_source_keeps_the_rows_and_states_certainty_in_solutions(style):
    made, plain = StatedConfidence(SUMS, style, ask="?").rows(3), SUMS.rows(3)
    judge = WithConfidence(Exact(after="="), style)
    assert made == StatedConfidence(SUMS, style, ask="?").rows(3)
    for name, rows in plain.items():
        for row, bare in zip(made[name], rows, strict=True):
            assert row["prompt"] == bare["prompt"] + "?" and row["id"] == bare["id"]
            assert split(row["solution"], style) == (bare["solution"], 1.0) and judge.score(row["solution"], row["answer"]) == 1
            assert split(row["corpus"], style)[0] == bare["corpus"]


@pytest.mark.parametrize(("overconfident", "noise"), [(0.0, 0.0), (1.0, 0.5), (0.3, 0.4)])
def test_confidence_of_the_corpus(overconfident, noise):
    rows = StatedConfidence(SUMS, overconfident=overconfident, noise=noise).rows(0)["train"]
    honest, random = (1 - overconfident) * (1 - noise), (1 - overconfident) * noise / 11
    for truth in (True, False):
        stated = [split(r["corpus"], "mark")[1] for r in rows if (r["meta"]["wrong_steps"] == 0) == truth]
        for i in range(11):
            share = random + (i == 10) * overconfident + (i == 10 * truth) * honest
            seen = sum(c == i / 10 for c in stated) / len(stated)
            assert abs(seen - share) <= 4.5 * (share * (1 - share) / len(stated)) ** 0.5, (truth, i)


def test_attempts_state_some_confidence():
    source, answers = StatedConfidence(SUMS, ask="?"), [str(i) for i in range(10)]
    row = source.rows(0)["train"][0]
    right = [source.right_attempt(row, rng(i)) for i in range(300)]
    wrong = [source.wrong_attempt(row, answers, rng(i)) for i in range(300)]
    assert {split(t, "mark")[0] for t in right} == {row["solution"][:-1]}
    assert {MARK.score(t, row["answer"]) for t in right} == {1.0} and {MARK.score(t, row["answer"]) for t in wrong} == {0.0}
    for texts in (right, wrong):
        assert {MARK.confidence(t) for t in texts} == {i / 10 for i in range(11)}
        assert abs(sum(MARK.confidence(t) == 1.0 for t in texts) / 300 - 6 / 11) < 0.12
