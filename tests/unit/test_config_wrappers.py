"""Plugs that wrap plugs: options, code and paths of what is inside, and the metrics that a verifier lets claims use."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from opd_steps.config import plugs
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.nodes import Graph
from opd_steps.tasks.sources.arithmetic import Arithmetic
from opd_steps.tasks.sources.hinted import Hinted
from opd_steps.tasks.sources.stated_confidence import StatedConfidence

HINTED = {"name": "hinted", "share": 0.1, "of": {"name": "stated_confidence", "of": {"name": "arithmetic", "digits": 1}}}
SURE = {"name": "with_confidence", "of": {"name": "exact", "after": "="}}


def typed(**options) -> dict:
    return merge(KINDS["data"], {"kind": "data", **options}, "nodes.data")


def test_a_wrapper_and_what_it_wraps_are_built_with_all_defaults():
    options = typed(source=HINTED, hints="marks")
    assert options["source"]["of"]["of"]["modulus"] == 100 and options["source"]["most"] == Hinted().most
    assert plugs.load("tasks/sources", options["source"]) == Hinted(StatedConfidence(Arithmetic(digits=1)), share=0.1)
    assert [o["name"] for o in plugs.chain(options["source"])] == ["hinted", "stated_confidence", "arithmetic"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": "hinted"}, r"nodes.data.source.of: expected a name"),
        ({"source": HINTED | {"of": "arithmetik"}}, r"source.of: no sources named 'arithmetik'.*'arithmetic'"),
        ({"verifier": SURE | {"of": {"name": "exact", "afer": "="}}}, r"verifier.of.afer: unknown key.*'after'"),
        ({"verifier": SURE | {"style": "wrods"}}, r"verifier.style"),
        ({"hints": {"name": "marks", "left": "("}}, r"hints.left: unknown key"),
    ],
)
def test_mistakes_inside_name_their_key(options, says):
    with pytest.raises(UserError, match=says):
        typed(**options)


def graph(tmp_path, claim: str = "base.test/accuracy", k: int = 4, **data) -> Graph:
    paper = {
        "paper": {"title": "t"},
        "nodes": {
            "data": {"kind": "data", **data},
            "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
            "base": {"kind": "pretrain", "model": "init", "data": "data"},
        },
        "evaluate": {"models": ["base"], "options": {"data": "data", "k": k, "splits": ["test"]}},
        "claims": [{"id": "c", "says": "s", "left": claim, "right": 0.5}],
    }
    OmegaConf.save(paper, tmp_path / "toy.yaml")
    made = checked(Graph([str(tmp_path / "toy.yaml")]))
    wanted(made)
    return made


def test_the_code_of_what_is_inside_belongs_to_the_node(tmp_path):
    code = graph(tmp_path, source=HINTED, hints="marks", verifier=SURE).nodes["toy", "data", "data"].code
    used = ("sources/hinted", "sources/stated_confidence", "sources/arithmetic", "verifiers/exact", "hints/marks")
    assert {f"opd_steps/tasks/{name}.py" for name in used} <= set(code)
    assert not {"opd_steps/tasks/verifiers/numeric.py", "opd_steps/tasks/hints/words.py"} & set(code)


def test_a_path_inside_must_exist(tmp_path):
    with pytest.raises(UserError, match=r"nodes.data.source.of.path: no such file or folder: ./nowhere"):
        graph(tmp_path, source={"name": "stated_confidence", "of": {"name": "jsonl", "path": "./nowhere"}}, verifier=SURE)


def test_a_source_that_shows_attempts_is_told_how_and_stands_outermost(tmp_path):
    with pytest.raises(UserError, match=r"nodes.data.hints: source 'hinted' shows attempts"):
        graph(tmp_path, source=HINTED, verifier=SURE)
    inside = {"name": "stated_confidence", "of": {"name": "hinted", "of": "arithmetic"}}
    with pytest.raises(UserError, match=r"nodes.data.source: .*outermost"):
        graph(tmp_path, source=inside, verifier=SURE, hints="marks")


RANKED = {"source": "json_ranking", "verifier": "json_ranking"}


@pytest.mark.parametrize(
    ("data", "metric"),
    [
        (RANKED, "parsed"),
        (RANKED, "avg_given_parsed"),
        (RANKED, "ndcg_at_1"),
        ({"verifier": SURE}, "ece"),
        ({"verifier": SURE}, "overconfidence"),
        ({"verifier": {"name": "with_confidence", "of": "json_ranking"}}, "spr"),
        ({"verifier": {"name": "with_confidence", "of": "json_ranking"}}, "parsed"),
    ],
)
def test_claims_may_use_what_the_verifier_measures(tmp_path, data, metric):
    graph(tmp_path, f"base.test/{metric}", **data)


@pytest.mark.parametrize(
    ("data", "metric"), [({}, "parsed"), (RANKED, "ece"), ({"verifier": SURE}, "parsed"), (RANKED | {"k": 0}, "parsed")]
)
def test_claims_on_what_is_not_measured_are_refused(tmp_path, data, metric):
    with pytest.raises(UserError, match=f"has no metric 'test/{metric}'"):
        graph(tmp_path, f"base.test/{metric}", **data)
