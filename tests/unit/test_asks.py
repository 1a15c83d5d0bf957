"""What is asked of whom: a set, and what each plug of the package adds to it."""

from __future__ import annotations

from itertools import product

import pytest

from opd_steps.config import plug_schema, plugs
from opd_steps.config.asks import NOTHING, Asks, union
from opd_steps.config.merge import merge
from opd_steps.config.needs import GROUPS, asks, of_plug, of_word, others
from opd_steps.graph.method import Term

SAMPLED, FULL = Asks(sampled=True), Asks(full=True)
TOP4 = Asks(sampled=True, topk=4)

ASKED = {  # of the teacher that the term is against; plugs that are not named here ask nothing
    "support": {
        "sampled": SAMPLED,
        "teacher_topk": TOP4,
        "intersection": TOP4,
        "zero_outside_topk": TOP4,
        "student_topk": FULL,
        "union": FULL,
        "full": FULL,
    },
    "baseline": {"neg_kl": FULL, "optimal": FULL},
    "target": {"hardest": FULL, "taid": FULL, "trust_region": FULL, "veto": FULL},
    "transform": dict.fromkeys(("margin_shift", "return_to_go", "span_sum", "zscore"), SAMPLED),
    "weight": dict.fromkeys(("gap_mask", "perplexity_route", "teacher_prefers"), SAMPLED)
    | dict.fromkeys(("change_point", "overlap_decay", "teacher_entropy_above", "tip", "watch_topk"), FULL),
    "where": {"committed": FULL},
}
TWO = {"more_likely_by": ("first", "second"), "gap_drop": ("first", "second"), "dual_route": ("student", "teacher")}
REQUIRED = {name: dict(zip(keys, "ab", strict=True)) for name, keys in TWO.items()} | {
    "hidden_mse": {"layers": [1]},
    "trust_region": {"start": "a"},
}
HIDDEN = dict.fromkeys(("teacher", "student"), Asks(hidden=frozenset({1})))
SILENT = {"mle", "duel", "outcome"}  # estimator, signal: with one of these a term does not look at its support


def options(group: str, name: str) -> dict:
    """Default options of a plug."""
    found = {
        key: f.default
        for key, f in plug_schema.schema(group, name).__dataclass_fields__.items()
        if not callable(f.default_factory) and f.default != "???"
    }
    return found | {"name": name} | REQUIRED.get(name, {}) | ({"k": 4} if "k" in found else {})


def test_a_set_of_asks():
    assert Asks(sampled=True, full=True) == SAMPLED | FULL
    assert Asks(topk=3) | Asks(topk=5) | NOTHING == Asks(topk=5)
    assert Asks(hidden=frozenset({1})) | Asks(hidden=frozenset({0, 1})) == Asks(hidden=frozenset({0, 1}))
    assert not NOTHING and all((SAMPLED, FULL, Asks(topk=1), Asks(hidden=frozenset({0}))))
    assert [a.beyond_action for a in (NOTHING, SAMPLED, FULL, Asks(topk=1), Asks(hidden=frozenset({0})))] == [0, 0, 1, 1, 1]


def test_words():
    assert of_word("none", {}) == NOTHING
    assert of_word("topk", {"k": 7}) == Asks(sampled=True, topk=7)
    assert of_word("hidden", {"layers": [2, 0]}) == Asks(hidden=frozenset({0, 2}))


def test_a_union_names_only_who_is_asked():
    assert union([{"a": SAMPLED, "b": NOTHING}, {"a": TOP4}, {}]) == {"a": TOP4}


@pytest.mark.parametrize("slot", ["baseline", "target", "transform", "weight", "where"])
def test_every_plug_asks_what_the_table_says(slot):
    names = plug_schema.names(GROUPS[slot])
    assert ASKED.get(slot, {}).keys() <= set(names)
    for name in names:
        found = of_plug(GROUPS[slot], options(GROUPS[slot], name), "t")
        routed = {"a": SAMPLED, "b": SAMPLED} if name in TWO else {"a": FULL} if name == "trust_region" else {}
        own = {"t": ASKED[slot][name]} if name in ASKED.get(slot, {}) else {}
        assert found == own | routed, name


@pytest.mark.parametrize("support", plug_schema.names(GROUPS["support"]))
def test_a_term_asks_what_its_support_does_unless_it_looks_at_none(support):
    assert ASKED["support"].keys() == set(plug_schema.names(GROUPS["support"]))
    for estimator, signal in product(*(plug_schema.names(GROUPS[slot]) for slot in ("estimator", "signal"))):
        parts = {"support": support, "estimator": estimator}
        row = merge(Term, {slot: options(GROUPS[slot], name) for slot, name in parts.items()} | {"signal": signal}, "t")
        expected = {} if {estimator, signal} & SILENT else {"teacher": ASKED["support"][support]}
        assert asks(row) == (HIDDEN if estimator == "hidden_mse" else expected), (estimator, signal)


def test_every_judge_and_source_asks_what_the_table_says():
    routed = {"name": "routed", "to": {"x": "a", "y": "b"}}
    assert others("teachers/sources", routed) == [dict.fromkeys(("a", "b"), NOTHING)]  # what it is asked itself
    sources = ["bridged", "current", "ema", "frozen", "spans"]
    for group, alone in (
        ("judges", ["discriminator", "formatted", "overlong", "rubric", "tutor"]),
        ("teachers/sources", sources),
    ):
        assert [name for name in plug_schema.names(group) if not plugs.constant(group, name, "OTHERS")] == alone


def test_a_target_beyond_the_teacher_asks_the_reference_as_much():
    beyond = lambda **more: asks(merge(Term, {"target": "extrapolate", **more}, "t"))
    assert beyond() == {"teacher": SAMPLED, "reference": SAMPLED}
    assert beyond(support="full", estimator="exact") == {"teacher": FULL, "reference": FULL}
    assert beyond(baseline="neg_kl") == {"teacher": SAMPLED | FULL, "reference": FULL}
    assert asks(merge(Term, {"target": {"name": "extrapolate", "lam": 1.0}}, "t")) == {"teacher": SAMPLED}


def test_terms_ask_whom_they_are_against():
    where = [options("objectives/where", "more_likely_by")]
    row = merge(Term, {"against": "math", "support": "full", "weight": ["gap_mask"], "where": where}, "t")
    assert asks(row) == {"math": SAMPLED | FULL, "a": SAMPLED, "b": SAMPLED}


def test_an_option_k_counts_likeliest_tokens():
    """As the preflight takes it, which holds it against the vocabulary (opd_needs.topk)."""
    slots = ("support", "baseline", "transform", "weight", "where")
    found = {
        name
        for slot in slots
        for name in plug_schema.names(GROUPS[slot])
        if "k" in plug_schema.schema(GROUPS[slot], name).__dataclass_fields__
    }
    tops = {"teacher_topk", "student_topk", "intersection", "union", "zero_outside_topk"}
    assert found == tops | {"neg_kl", "change_point", "overlap_decay", "watch_topk"}
