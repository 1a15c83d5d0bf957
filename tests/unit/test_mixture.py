"""Mixtures of data sets: exact counts, in a drawn order, each row with its source's name and judged by its source's verifier."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest
from omegaconf import OmegaConf

from opd_steps.config import plugs
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.nodes import Graph
from opd_steps.seeds import rng
from opd_steps.tasks import golds
from opd_steps.tasks.sources.arithmetic import Arithmetic
from opd_steps.tasks.sources.jsonl import Jsonl
from opd_steps.tasks.sources.mixture import Mixture, shares
from opd_steps.tasks.verifiers.exact import Exact
from opd_steps.tasks.verifiers.json_ranking import JsonRanking
from opd_steps.tasks.verifiers.routed import Routed


def written(path, name: str, train: int, test: int = 2):
    """A folder of rows `<name><i>`."""
    (path / name).mkdir()
    for split, count in (("train", train), ("test", test)):
        rows = [{"prompt": f"{name} {split} {i}", "answer": str(i)} for i in range(count)]
        (path / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Jsonl(str(path / name))


def counts(rows: list[dict]) -> dict:
    return dict(Counter(row["meta"]["domain"] for row in rows))


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, {"a": 1, "b": 1, "c": 1}, {"a": 4, "b": 3, "c": 3}),  # of equal remainders the first named
        (10, {"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 5, "b": 3, "c": 2}),
        (7, {"a": 2.9, "b": 2.9, "c": 0.2}, {"a": 4, "b": 3, "c": 0}),
        (1000, {"a": 3, "b": 1}, {"a": 750, "b": 250}),
        (0, {"a": 3, "b": 1}, {"a": 0, "b": 0}),
    ],
)
def test_shares_by_hand(total, weights, expected):
    assert shares(total, weights) == expected


def test_counts_are_exact_and_no_row_stands_twice(tmp_path):
    of = {"maths": written(tmp_path, "maths", 100), "code": written(tmp_path, "code", 40), "chat": written(tmp_path, "chat", 9)}
    mixture = Mixture(of, {"maths": 3, "code": 1, "chat": 0}, train=80)
    found = mixture.rows(0)
    assert counts(found["train"]) == {"maths": 60, "code": 20}
    assert counts(found["test"]) == {"maths": 2, "code": 2, "chat": 2}
    assert [r["prompt"] for r in found["test"][:3]] == ["maths test 0", "maths test 1", "code test 0"]
    prompts = [r["prompt"] for r in found["train"]]
    assert len(set(prompts)) == 80 and all(
        p.startswith(r["meta"]["domain"]) for p, r in zip(prompts, found["train"], strict=True)
    )
    assert found == mixture.rows(0) and [r["prompt"] for r in mixture.rows(1)["train"]] != prompts
    mixed = [r["meta"]["domain"] for r in found["train"]]
    assert sum(one != other for one, other in itertools.pairwise(mixed)) > 15  # not one domain after the other


def test_without_a_number_it_is_the_largest_mixture_without_repeats(tmp_path):
    of = {"a": written(tmp_path, "a", 10), "b": written(tmp_path, "b", 100)}
    assert counts(Mixture(of, {"a": 1, "b": 3}).rows(0)["train"]) == {"a": 10, "b": 30}
    assert counts(Mixture(of, {"a": 0.1, "b": 0.2}).rows(0)["train"]) == {"a": 10, "b": 20}
    assert counts(Mixture(of, {"a": 0, "b": 1}).rows(0)["train"]) == {"b": 100}


def test_a_small_source_is_gone_through_again_as_often_as_allowed(tmp_path):
    of = {"a": written(tmp_path, "a", 10), "b": written(tmp_path, "b", 100)}
    found = Mixture(of, {"a": 1, "b": 1}, train=50, passes=2.5).rows(0)["train"]
    assert counts(found) == {"a": 25, "b": 25}
    often = Counter(r["prompt"] for r in found if r["meta"]["domain"] == "a")
    assert sorted(often.values()) == [2] * 5 + [3] * 5
    with pytest.raises(UserError, match=r"mixture.of.a: 25 train rows are its share, and it has 10: expected .* passes 2.5"):
        Mixture(of, {"a": 1, "b": 1}, train=50, passes=2).rows(0)
    with pytest.raises(UserError, match=r"mixture.of.a: none of 3 train rows is its own"):
        Mixture(of, {"a": 1, "b": 9}, train=3).rows(0)


def test_prompts_that_are_tested_are_no_train_rows_and_the_counts_stay_exact(tmp_path):
    (tmp_path / "both").mkdir()
    of = {"a": written(tmp_path, "a", 30), "b": written(tmp_path, "b", 30)}
    leak = (tmp_path / "a" / "train.jsonl").read_text().splitlines()[:20]
    (tmp_path / "b" / "test.jsonl").write_text("\n".join(leak) + "\n")
    found = Mixture(of, {"a": 1, "b": 1}, train=20).rows(0)
    assert counts(found["train"]) == {"a": 10, "b": 10}
    assert not {r["prompt"] for r in found["train"]} & {r["prompt"] for r in found["test"]}
    with pytest.raises(UserError, match=r"mixture.of.a: 11 train rows are its share, and it has 10"):
        Mixture(of, {"a": 1, "b": 1}, train=22).rows(0)


def test_attempts_are_those_of_a_rows_own_source(tmp_path):
    mixture = Mixture(
        {"sums": Arithmetic(train=20, test=2, ood=2), "files": written(tmp_path, "files", 20)}, {"sums": 1, "files": 1}
    )
    row = next(r for r in mixture.rows(0)["train"] if r["meta"]["domain"] == "sums")
    assert mixture.right_attempt(row, rng(0)) == mixture.of["sums"].right_attempt(row, rng(0))


def typed(**options) -> dict:
    return merge(KINDS["data"], {"kind": "data", **options}, "nodes.data")


MIXED = {
    "name": "mixture",
    "of": {"one": {"name": "arithmetic", "digits": 1}, "other": "walk"},
    "weights": {"one": 1, "other": 2},
}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"of": {"one": "arithmetik", "other": "walk"}}, r"nodes.data.source.of.one: no sources named 'arithmetik'"),
        ({"of": {"one": {"name": "arithmetic", "digit": 1}, "other": "walk"}}, r"nodes.data.source.of.one.digit: unknown key"),
        ({"of": ["arithmetic"]}, r"nodes.data.source.of: expected a mapping"),
        ({"weights": {"one": 1}}, r"nodes.data.source.weights: expected sorted\(weights\) == sorted\(of\)"),
        ({"weights": {"one": -1, "other": 1}}, r"nodes.data.source.weights.one: expected at least 0"),
        ({"passes": 0.5}, r"nodes.data.source.passes: expected at least 1"),
    ],
)
def test_mistakes_name_their_key(changed, says):
    with pytest.raises(UserError, match=says):
        typed(source=MIXED | changed)


def test_options_of_all_sources_are_merged_and_built():
    options = typed(source=MIXED)
    assert options["source"]["of"]["one"]["digits"] == 1 and options["source"]["of"]["other"]["name"] == "walk"
    built = plugs.load("tasks/sources", options["source"])
    assert isinstance(built, Mixture) and built.of["one"] == Arithmetic(digits=1)


def test_each_domain_has_its_verifier():
    verifier = Routed({"sums": Exact(after="="), "lists": JsonRanking()})
    rows = [{"id": "0", "answer": "7", "meta": {"domain": "sums"}}, {"id": "1", "answer": '["a"]', "meta": {"domain": "lists"}}]
    assert verifier.judge(["3+4=7", '["a"]', "3+4=7"], [*rows, rows[1]]) == [1.0, 1.0, 0.0]
    with pytest.raises(UserError, match=r"the answer '7x\[' is no JSON list"):
        judged = golds.Golds(verifier, "train", drop=False)
        judged.readable([rows[1] | {"answer": "7x["}])
        judged.tell("verifier", print)
    with pytest.raises(UserError, match=r"domain of a row is 'code'; it judges sums, lists"):
        verifier.of_row({"id": "2", "answer": "7", "meta": {"domain": "code"}})
    with pytest.raises(UserError, match="domain of a row is not there"):
        verifier.of_row({"id": "2", "answer": "7"})


def test_samples_of_one_prompt_come_together_where_a_verifier_compares_them():
    class Pairs(Exact):
        AT_ONCE = False

        def judge(self, completions, rows):
            assert len({row["id"] for row in rows}) == 1
            return [float(len(completions))] * len(completions)

    rows = [{"id": i, "answer": "1", "meta": {"domain": "x"}} for i in ("0", "1", "0")]
    assert Routed({"x": Pairs()}).judge(["a", "b", "c"], rows) == [2.0, 1.0, 2.0]


def graph(
    tmp_path, claim: str = "base.test/accuracy", policy: dict | None = None, evaluate: dict | None = None, **data
) -> Graph:
    paper = {
        "paper": {"title": "t"},
        "nodes": {
            "data": {"kind": "data", **({"source": MIXED} | data)},
            "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
            "base": {"kind": "pretrain", "model": "init", "data": "data"},
            "rl": {"kind": "rl", "policy": "base", "data": "data", "by": "domain", **(policy or {})},
        },
        "evaluate": {"models": ["base", "rl"], "options": {"data": "data", "by": "domain", **(evaluate or {})}},
        "claims": [{"id": "c", "says": "s", "left": claim, "right": 0.5}],
    }
    OmegaConf.save(paper, tmp_path / "toy.yaml")
    made = checked(Graph([str(tmp_path / "toy.yaml")]))
    wanted(made)
    return made


@pytest.mark.parametrize(
    "claim", ["base.test/accuracy/one", "base.test/avg_at_k/other", "rl.train/reward/one", "rl.train/length/other:mean"]
)
def test_claims_may_name_a_figure_of_one_domain(tmp_path, claim):
    graph(tmp_path, claim)


@pytest.mark.parametrize(
    ("claim", "changed"),
    [
        ("base.test/accuracy/third", {}),  # no source of the mixture
        ("base.test/accuracy/one", {"evaluate": {"by": ""}}),
        ("base.test/own/entropy/one", {}),
        ("rl.train/loss/one", {}),
        ("rl.train/reward/one", {"policy": {"by": ""}}),
        ("base.test/avg_at_k/one", {"evaluate": {"k": 0}}),
    ],
)
def test_claims_on_figures_that_are_not_told_apart_are_refused(tmp_path, claim, changed):
    with pytest.raises(UserError, match="has no metric"):
        graph(tmp_path, claim, **changed)


def test_files_and_code_of_every_source_are_the_nodes_own(tmp_path):
    written(tmp_path, "mine", 5)
    inside = {"one": {"name": "jsonl", "path": str(tmp_path / "mine")}, "other": "walk"}
    node = graph(tmp_path, source=MIXED | {"of": inside}).nodes["toy", "data", "data"]
    assert node.says.sources(node.options)["source.of.one.path"].path == str(tmp_path / "mine")
    assert {f"opd_steps/tasks/sources/{name}.py" for name in ("mixture", "jsonl", "walk")} <= set(node.code)
    with pytest.raises(UserError, match=r"nodes.data.source.of.one.path: no such file or folder"):
        graph(tmp_path, source=MIXED | {"of": inside | {"one": {"name": "jsonl", "path": "./nowhere"}}})
    both = {"name": "domains", "one": inside["one"], "other": "walk"}
    node = graph(tmp_path, source=both, evaluate={"by": ""}, policy={"by": ""}).nodes["toy", "data", "data"]
    assert "source.one.path" in node.says.sources(node.options)


def test_nobody_learns_from_rewards_that_a_domain_does_not_give(tmp_path):
    verifier = {"name": "routed", "to": {"one": "numeric", "other": "unjudged"}}
    with pytest.raises(UserError, match="the verifier 'unjudged' of its data gives none"):
        graph(tmp_path, verifier=verifier)
