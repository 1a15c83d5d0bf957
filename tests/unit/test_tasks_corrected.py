"""What a verifier says of wrong attempts, corpora that teach to read it, prompts with a solution in view, and talk of one."""

from __future__ import annotations

import pytest
import torch

from opd_steps.analyses.mentions import Mentions
from opd_steps.errors import UserError
from opd_steps.tasks.errands import Errand, Graph
from opd_steps.tasks.hints.marks import Marks
from opd_steps.tasks.sources.corrected import Corrected
from opd_steps.tasks.sources.many_walks import ManyWalks
from opd_steps.tasks.sources.told import Told
from opd_steps.tasks.sources.walk import Walk
from opd_steps.tasks.verifiers.numeric import Numeric
from opd_steps.tasks.verifiers.numeric_feedback import NumericFeedback
from opd_steps.tasks.verifiers.walk import Walk as Verifier
from opd_steps.tasks.verifiers.walk_feedback import WalkFeedback
from tests.unit.analysis_toys import Prompts, context, path

WALK = Walk(nodes=9, chords=2, starts=3, held_out=0.25, train=90, test=30, ood=20)
RING = Graph("abbccddeeffa" + "ad")  # a hexagon with one chord


@pytest.mark.parametrize(
    ("walk", "says"),
    [("bcf", "bc:f"), ("e", ":e"), ("bc", "bc>e"), ("", ">e"), ("bcde", "bcde>c"), ("bcded", "bcded>c"), ("de dc", "de: ")],
)
def test_where_a_walk_goes_wrong(walk, says):
    errand = Errand("a", "ec", RING)
    assert WalkFeedback().feedback(walk, str(errand)) == says and not WalkFeedback().score(walk, str(errand))


def test_a_verifier_with_feedback_judges_as_the_one_without():
    texts, answers = ["bcde", "bcdedc", "x"], [str(Errand("a", "ec", RING))] * 3
    assert WalkFeedback().METRICS == Verifier().METRICS
    for one, other, args in ((WalkFeedback(), Verifier(), answers), (NumericFeedback(), Numeric(), ["4"] * 3)):
        scores = [[v.score(t, a) for t, a in zip(texts, args, strict=True)] for v in (one, other)]
        assert scores[0] == scores[1] and one.measure(texts, args, scores[0]) == other.measure(texts, args, scores[0])


def test_which_number_was_read():
    assert NumericFeedback().feedback("So #### 5", "4").endswith("the answer 5 is wrong.")
    assert NumericFeedback().feedback("I do not know", "4").endswith("no number could be read as the answer.")


def test_corrected_rows_begin_as_the_wrong_attempt_did_and_go_on_rightly():
    source = Corrected(WALK, WalkFeedback(), share=0.8, demo=0.4)
    made, plain = source.rows(3), WALK.rows(3)
    assert made == source.rows(3) and made["test"] == plain["test"] and made["ood"] == plain["ood"]
    kinds = {"plain": 0, "demo": 0, "error": 0, "early": 0}
    for row, bare in zip(made["train"], plain["train"], strict=True):
        assert {**row, "corpus": 0} == {**bare, "corpus": 0} | ({"hints": row["hints"]} if "hints" in row else {})
        assert Verifier().score(row["corpus"], row["answer"]) == 1
        if "hints" not in row:
            kinds["plain"] += 1
        elif row["hints"]["right"]:
            kinds["demo"] += 1
            assert row["hints"] == {"right": [row["corpus"]], "wrong": []}
        else:
            note = row["hints"]["note"]
            kind, mark = ("error", ":") if ":" in note else ("early", ">")
            kinds[kind] += 1
            begun, _, node = note.partition(mark)
            assert row["corpus"].startswith(begun)
            if kind == "error":
                assert not row["corpus"].startswith(begun + node)
    assert min(kinds.values()) >= 8


def test_corrections_need_a_verifier_that_says_something():
    silent = type("Silent", (Verifier,), {"feedback": lambda self, completion, answer: ""})()
    with pytest.raises(UserError, match="says nothing of wrong attempts"):
        Corrected(WALK, silent, share=1.0, demo=0.0).rows(0)


def test_many_walks_are_on_as_many_graphs():
    source = ManyWalks(WALK, graphs=7)
    made = source.rows(0)
    assert made == source.rows(0) and len(made["test"]) == 30
    assert (
        10 < len(made["ood"]) <= 20 and 30 < len(made["train"]) <= 90
    )  # a prompt of one split may be another graph's in the next
    graphs = {Errand.read(row["answer"]).graph.edges for row in made["train"]}
    assert len(graphs) == 7 and WALK.made().edges in graphs
    assert all(Verifier().score(row["solution"], row["answer"]) for rows in made.values() for row in rows)
    one = ManyWalks(WALK, graphs=1).rows(0)
    assert [row["prompt"] for row in one["test"]] == [row["prompt"] for row in WALK.rows(0)["test"]]


def test_told_prompts_show_their_solution_or_another_rows():
    plain, told, other = WALK.rows(0), Told(WALK, Marks()).rows(0), Told(WALK, Marks(), other=True).rows(0)
    for split, rows in plain.items():
        solutions = [row["solution"] for row in rows]
        for found, shown in ((told, solutions), (other, solutions[1:] + solutions[:1])):
            assert found[split] == [r | {"prompt": f"!{s}|{r['prompt']}"} for r, s in zip(rows, shown, strict=True)]


def test_mentions_are_counted_in_plain_samples():
    pool = Prompts(3, lambda *_: 1.0, vocab=16)
    says = context(pool, model=path([0, 4, 7], 16))
    assert says.rollouts().actions[0].tolist() == [4, 7, 15]
    assert Mentions(["4, 7"]).measure(says) == {"mentions/share": 1.0}
    assert Mentions(["7, 4", "no"]).measure(says) == {"mentions/share": 0.0}
    logits = torch.zeros(16, 16)
    logits[0, 4], logits[0, 5], logits[4, 15], logits[5, 15] = 40.0, 40.0, 80.0, 80.0
    half = context(Prompts(200, lambda *_: 1.0, vocab=16), model=type(path([0], 16))(logits))
    share = Mentions(["4"]).measure(half)["mentions/share"]
    assert share == sum(int(a[0]) == 4 for a in half.rollouts().actions) / 200 and 0.3 < share < 0.7
