"""JSON rankings: the grammar, its noise to the letter, and a verifier that parses strictly."""

from __future__ import annotations

import json
import re

import pytest

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.sources.json_ranking import STRUCTURE, JsonRanking, write
from opd_steps.tasks.verifiers.json_ranking import JsonRanking as Verifier
from opd_steps.tasks.verifiers.json_ranking import ranking

SMALL = {"train": 400, "test": 40, "ood": 20}


def test_rows_rank_their_items_and_leak_nothing():
    source = JsonRanking(**SMALL, names="abcdefgh", items=[3, 4], ood_items=[5])
    rows = source.rows(3)
    assert rows == source.rows(3) != source.rows(4)
    assert {split: len(r) for split, r in rows.items()} == SMALL
    every = [r for part in rows.values() for r in part]
    assert len({r["prompt"] for r in every}) == len(every)
    for row in every:
        scores = dict(re.findall(r"([a-h])(\d)", row["prompt"]))
        assert row["prompt"] == "".join(n + s for n, s in scores.items()) + "="
        assert len(set(scores.values())) == len(scores)
        assert json.loads(row["answer"]) == sorted(scores, key=scores.get, reverse=True)
        assert row["solution"] == row["answer"] and Verifier().score(row["solution"], row["answer"]) == 1
    assert {r["meta"]["items"] for r in rows["ood"]} == {5} and {r["meta"]["items"] for r in rows["train"]} == {3, 4}


def test_longer_scores_are_padded():
    for row in JsonRanking(**SMALL, digits=2).rows(0)["test"]:
        assert re.fullmatch(r"([a-f]\d\d){3}=", row["prompt"])


def test_noise_is_as_frequent_as_said_and_does_what_its_facts_say():
    rows = JsonRanking(train=4000, test=10, ood=0, format_noise=0.3, order_noise=0.1).rows(0)["train"]
    judge = Verifier()
    for row in rows:
        assert judge.parsed(row["corpus"]) != row["meta"]["invalid"]
        if not row["meta"]["invalid"]:
            assert judge.score(row["corpus"], row["answer"]) != row["meta"]["swapped"]
            assert sorted(json.loads(row["corpus"])) == sorted(json.loads(row["answer"]))
    for name, share in (("invalid", 0.3), ("swapped", 0.1)):
        seen = sum(r["meta"][name] for r in rows) / len(rows)
        assert abs(seen - share) < 4 * (share * (1 - share) / len(rows)) ** 0.5
    clean = JsonRanking(**SMALL, format_noise=0, order_noise=0).rows(0)["train"]
    assert all(r["corpus"] == r["solution"] for r in clean)


@pytest.mark.parametrize("items", [["b"], ["b", "c"], ["b", "c", "a", "d"]])
def test_every_single_mistake_of_structure_breaks_the_grammar(items):
    text = write(items)
    places = [i for i, c in enumerate(text) if c in STRUCTURE]
    for i in places:
        for instead in {"", *STRUCTURE} - {text[i]}:
            assert ranking(text[:i] + instead + text[i + 1 :]) is None
    made = {JsonRanking()._break(text, rng(seed)) for seed in range(2000)}
    assert made == {text[:i] + x + text[i + 1 :] for i in places for x in {"", *STRUCTURE} - {text[i]}}


def test_broken_at_the_end_is_one_decision():
    rows = JsonRanking(**SMALL, broken="end", order_noise=0, format_noise=0.5).rows(0)["train"]
    assert {r["solution"].removeprefix(r["corpus"]) for r in rows} == {"", "]"}


def test_a_wrong_attempt_swaps_two_items():
    made = {JsonRanking().wrong_attempt({"answer": '["b","c","a"]'}, (), rng(seed)) for seed in range(100)}
    assert made == {'["c","b","a"]', '["a","c","b"]', '["b","a","c"]'}


def test_more_rows_than_there_are_prompts_are_refused():
    with pytest.raises(UserError, match="distinct prompts"):
        JsonRanking(names="abc", items=[2], ood_items=[3], train=600).rows(0)


@pytest.mark.parametrize(
    ("completion", "parsed", "right"),
    [
        ('["b","c","a"]', True, True),
        (' [ "b", "c",\n"a" ] ', True, True),
        ('["c","b","a"]', True, False),
        ('["b","c"]', True, False),
        ('["b","c","a","a"]', True, False),
        ('["b","b","b"]', True, False),
        ('["b","c","a",]', False, False),
        ('["b","c","a"', False, False),
        ('["b","c","a"]]', False, False),
        ('["b","c","a"] is my answer', False, False),
        ("['b','c','a']", False, False),
        ("[b,c,a]", False, False),
        ("[1,2,3]", False, False),
        ('{"b":1}', False, False),
        ('"b"', False, False),
        ("[]", False, False),
        ("NaN", False, False),
        ("", False, False),
        ("[" * 100_000, False, False),
    ],
)
def test_verifier(completion, parsed, right):
    judge = Verifier()
    assert (judge.parsed(completion), judge.score(completion, '["b","c","a"]')) == (parsed, float(right))


def test_measures_of_samples():
    samples = ['["b","a"]', '["a","b"]', '["b"]', "b,a"]
    scores = [Verifier().score(text, '["b","a"]') for text in samples]
    found = Verifier().measure(samples, ['["b","a"]'] * 4, scores)
    assert found == {"parsed": 3 / 4, "avg_given_parsed": 1 / 3, "ndcg_at_1": 2 / 4}
    assert Verifier().measure(["x"], ['["b"]'], [0.0]) == {"parsed": 0.0, "ndcg_at_1": 0.0}  # accuracy among none is undefined
