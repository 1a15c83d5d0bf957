"""The bench `walk`, beside brute force: all walks of a small graph, one step longer each time."""

import math
from itertools import pairwise, product

import numpy as np
import pytest

from opd_steps.errors import UserError
from opd_steps.tasks.errands import Errand, Graph
from opd_steps.tasks.sources.walk import Walk
from opd_steps.tasks.verifiers.walk import Walk as Verifier

SMALL = {"nodes": 9, "chords": 2, "starts": 3, "held_out": 0.25, "train": 90, "test": 30, "ood": 20}
RING = Graph("abbccddeeffa" + "ad")  # a hexagon with one chord


def edges(graph):
    pairs = [graph.edges[i : i + 2] for i in range(0, len(graph.edges), 2)]
    return {(a, b) for a, b in pairs} | {(b, a) for a, b in pairs}


def is_right(errand, walk):
    """The definition, word by word."""
    places = errand.start + walk
    steps = all(pair in edges(errand.graph) for pair in pairwise(places))
    at = [-1]
    for stop in errand.stops:
        at.append(walk.find(stop, at[-1] + 1))
        if at[-1] < 0:
            return False
    return steps and walk.endswith(errand.stops[-1])


def walks(graph, start, steps):
    """All walks of so many steps."""
    found = [""]
    for _ in range(steps):
        found = [walk + b for walk in found for a, b in edges(graph) if a == (start + walk)[-1]]
    return found


@pytest.mark.parametrize(("start", "stops"), [("a", "c"), ("b", "e"), ("c", "ea"), ("f", "bd"), ("a", "dbe")])
def test_the_shortest_walk_is_the_first_right_one_of_all_walks(start, stops):
    errand = Errand(start, stops, RING)
    steps = next(n for n in range(1, 12) if any(is_right(errand, walk) for walk in walks(RING, start, n)))
    assert errand.shortest == steps
    walk, _ = Walk()._walk(errand, np.random.default_rng(0), 0.0)
    assert len(walk) == steps and is_right(errand, walk)


def test_the_verifier_agrees_with_the_definition_on_every_text_of_up_to_five_nodes():
    errand, verifier = Errand("a", "cd", RING), Verifier()
    right = 0
    for length in range(6):
        for nodes in product("abcdef", repeat=length):
            walk = "".join(nodes)
            assert verifier.score(walk, str(errand)) == is_right(errand, walk)
            right += is_right(errand, walk)
    assert right > 10


@pytest.mark.parametrize("walk", ["", "c", "bcdx", "b cd", "bc\nd", "bcdb", "abcd", "dcb"])
def test_what_is_no_right_walk_scores_0(walk):
    assert Verifier().score(walk, str(Errand("a", "cd", RING))) == 0


def test_space_around_a_walk_and_a_thought_before_it_do_not_count():
    answer = str(Errand("a", "cd", RING))
    assert Verifier().score(" bcd\n", answer) == Verifier().score("<think>by c</think>bcd", answer) == 1
    assert Verifier().score("<think>bcd", answer) == 0


def test_measures_by_hand():
    answer = str(Errand("a", "cd", RING))
    texts = ["bcd", "bcbcd", "dcba", "db", ""]
    found = Verifier().measure(texts, [answer] * 5, [1.0, 1.0, 0.0, 0.0, 0.0])
    assert found == {"way_point": 3 / 5, "legal_moves": 13 / 14, "detour": (0 + 2) / 2}  # d-b is no edge
    assert Verifier().measure([""], [answer], [0.0]) == {"way_point": 0.0}
    assert set(found) == set(Verifier.METRICS)


@pytest.mark.parametrize("answer", ["", "a", "a>c", "a:abbc", "a>z:abbc", "a>c:abb", "a>d:abcd"])
def test_an_answer_that_is_no_errand_is_unreadable(answer):
    assert "no errand" in Verifier().unreadable(answer)
    with pytest.raises(ValueError, match="errand"):
        Errand.read(answer)


@pytest.mark.parametrize("options", [{}, {"way_points": 0}, {"way_points": 2}, {"noise": 0.0}, {"noise": 1.0}, {"chords": 0}])
def test_rows_are_right_in_every_text_and_leak_nothing(options):
    source = Walk(**SMALL | options | ({"train": 14, "test": 4, "ood": 6} if options.get("way_points") == 0 else {}))
    rows = source.rows(3)
    assert rows == source.rows(3) != source.rows(4)
    assert {split: len(r) for split, r in rows.items()} == {s: getattr(source, s) for s in rows}
    every = [r for part in rows.values() for r in part]
    assert len({r["prompt"] for r in every}) == len(every)
    for r in every:
        errand = Errand.read(r["answer"])
        assert r["answer"].startswith(r["prompt"]) and errand.prompt == r["prompt"] and errand.graph == source.made()
        assert len(set(errand.start + errand.stops)) == source.way_points + 2
        assert is_right(errand, r["solution"]) and len(r["solution"]) == errand.shortest == r["meta"]["steps"]
        assert is_right(errand, r["corpus"]) and len(r["corpus"]) == r["meta"]["corpus_steps"]
        assert r["meta"]["strays"] or r["corpus"] == r["solution"]
    assert {r["prompt"][0] for r in every} == set("adg")  # three of a..i, evenly spread
    pairs = {split: {r["prompt"][:3] for r in part} for split, part in rows.items()}  # start and first stop
    assert len(pairs["ood"]) <= round(source.held_out * 3 * 8) and not pairs["ood"] & (pairs["train"] | pairs["test"])


def test_the_graph_is_a_ring_with_chords_whatever_the_rows_seed():
    graph = Walk(nodes=12, chords=5, graph=7).made()
    assert graph == Walk(nodes=12, chords=5, graph=7, train=9, noise=0.9).made() != Walk(nodes=12, chords=5, graph=8).made()
    assert len(edges(graph)) == 2 * 17 and sum(map(len, graph.neighbours.values())) == 2 * 17
    assert all((a, b) in edges(graph) for a, b in zip("abcdefghijkl", "bcdefghijkla", strict=True))
    assert all(a not in near for a, near in graph.neighbours.items())


def test_the_corpus_strays_at_the_share_of_steps_that_was_asked_for():
    rows = Walk(train=4000, test=0, ood=0).rows(0)["train"]
    steps, strays = (sum(r["meta"][name] for r in rows) for name in ("corpus_steps", "strays"))
    assert abs(strays / steps - 0.15) < 4 * math.sqrt(0.15 * 0.85 / steps)


def test_attempts():
    source, draw = Walk(**SMALL, noise=0.5), np.random.default_rng(1)
    rows = source.rows(0)["train"]
    right = [source.right_attempt(r, draw) for r in rows]
    assert all(is_right(Errand.read(r["answer"]), text) for r, text in zip(rows, right, strict=True))
    assert any(text != r["solution"] for r, text in zip(rows, right, strict=True))
    wrong = [source.wrong_attempt(r, [], draw) for r in rows for _ in range(5)]
    assert not any(
        Verifier().score(text, r["answer"]) for r, text in zip([r for r in rows for _ in range(5)], wrong, strict=True)
    )


def test_more_rows_or_chords_than_there_are_is_refused():
    few = {"nodes": 5, "starts": 2, "way_points": 0, "held_out": 0.25, "test": 2, "ood": 2}
    rows = Walk(**few, chords=5, train=4).rows(0)
    assert sorted(r["prompt"] for part in rows.values() for r in part) == [f"{a}>{b}:" for a in "ac" for b in "abcde" if a != b]
    with pytest.raises(UserError, match=r"7 rows asked for.*make 6 distinct"):
        Walk(**few, chords=0, train=5).rows(0)
    with pytest.raises(UserError, match=r"3 rows asked for.*make 2 distinct"):
        Walk(**few | {"ood": 3}, chords=0, train=4).rows(0)
    with pytest.raises(UserError, match="room for 5, not 6"):
        Walk(nodes=5, chords=6).rows(0)
