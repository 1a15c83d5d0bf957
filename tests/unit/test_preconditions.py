"""What a claim requires: refused before anything runs where it is wrong, and judged by the means over the seeds that ran."""

from __future__ import annotations

import math

import pytest
from omegaconf import OmegaConf

from opd_steps.errors import UserError
from opd_steps.findings.claims import HOLDS, UNMEASURED, UNTESTABLE
from opd_steps.findings.judge import judge
from opd_steps.findings.results import Plan
from opd_steps.graph import outline
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph
from tests.unit.fake_results import FakeResults, with_figure

NODES = {
    "data": {"kind": "data"},
    "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
    "base": {"kind": "pretrain", "model": "init", "data": "data"},
    "teacher": {"kind": "rl", "policy": "base", "data": "data"},
}
BEHIND = {"left": "teacher.test/accuracy", "op": ">", "right": "base.test/accuracy", "why": "it can be taught"}
CLAIM = {"id": "c", "says": "s", "left": "base.test/accuracy", "right": 0.5}


def build(folder, name: str = "toy", claim: dict | None = None, preconditions: dict | None = None, **more) -> Graph:
    paper = {"paper": {"title": "t"}, "claims": [CLAIM | (claim or {})], "preconditions": preconditions or {}} | more
    if "use" not in more:
        paper |= {"nodes": NODES, "evaluate": {"models": ["base", "teacher"], "options": {"data": "data"}}}
    OmegaConf.save(paper, folder / f"{name}.yaml")
    graph = checked(Graph([str(folder / f"{name}.yaml")]))
    wanted(graph)
    return graph


def required(graph: Graph, paper: str) -> list[dict]:
    return outline.make(graph, {"seeds": [0, 1]})["papers"][paper]["claims"][0]["requires"]


def test_a_claim_requires_what_its_paper_says(tmp_path):
    (found,) = required(build(tmp_path, claim={"requires": ["behind"]}, preconditions={"behind": BEHIND}), "toy")
    assert (found["name"], found["why"], found["op"]) == ("behind", "it can be taught", ">")
    assert found["left"]["terms"][0]["paths"] == {"0": "toy/evaluate/teacher/seed0", "1": "toy/evaluate/teacher/seed1"}
    number = {"far": BEHIND | {"left": "teacher.test/accuracy - base.test/accuracy", "right": 0.1}}
    (found,) = required(build(tmp_path, claim={"requires": ["far"]}, preconditions=number), "toy")
    assert len(found["left"]["terms"]) == 2 and found["right"] == {"label": "0.1", "value": 0.1}


def test_it_may_be_what_a_used_paper_says_of_nodes_that_the_claims_do_not_name(tmp_path):
    build(tmp_path, "bench", {"requires": ["behind"]}, {"behind": BEHIND})
    bench = str(tmp_path / "bench.yaml")
    graph = build(tmp_path, "mine", {"requires": ["behind"]}, use=bench)
    assert required(graph, "mine")[0]["right"]["label"] == "base.test/accuracy"
    keys = {node.key for node in wanted(graph)}
    assert ("bench", "evaluate", "teacher") in keys and ("bench", "rl", "teacher") in keys
    assert ("bench", "rl", "teacher") not in {node.key for node in wanted(build(tmp_path, "mine", use=bench))}
    own = build(tmp_path, "mine", {"requires": ["behind"]}, {"behind": BEHIND | {"why": "mine goes before"}}, use=bench)
    assert required(own, "mine")[0]["why"] == "mine goes before"
    build(tmp_path, "between", use=bench)
    deep = build(tmp_path, "mine", {"requires": ["behind"]}, use=[str(tmp_path / "between.yaml"), bench])
    assert required(deep, "mine")[0]["why"] == "it can be taught"  # one precondition, on two ways


def test_it_is_asked_of_the_copies_of_the_paper_that_requires_it(tmp_path):
    build(tmp_path, "bench", {"requires": ["behind"]}, {"behind": BEHIND})
    scales = {"tiny": {"nodes": {"base": {"steps": 7}}}}
    (found,) = required(
        build(tmp_path, "mine", {"requires": ["behind"]}, use=str(tmp_path / "bench.yaml"), scales=scales), "mine"
    )
    nodes = [found[key]["terms"][0]["paths"]["0"] for key in ("left", "right")]
    assert nodes == ["bench/evaluate/teacher/seed0", "mine/evaluate/base/seed0"]


@pytest.mark.parametrize(
    ("claim", "preconditions", "says"),
    [
        ({"requires": ["behnd"]}, {"behind": BEHIND}, "claims[0].requires[0]: unknown name 'behnd'. Did you mean: 'behind'?"),
        ({"requires": ["behind"]}, {}, "claims[0].requires[0]: no precondition 'behind': this paper has none"),
        ({"requires": ["behind", "behind"]}, {"behind": BEHIND}, "claims[0].requires: expected unique(requires)"),
        ({}, {"behind": BEHIND}, "preconditions.behind: no claim of this paper requires it"),
        ({"requires": ["a"]}, {"a": BEHIND | {"why": ""}}, "preconditions.a.why: expected len(why) >= 1; found why ''"),
        ({"requires": ["a"]}, {"a": {"left": "x.y", "right": 1}}, "preconditions.a.why: this key is required"),
        ({"requires": ["a"]}, {"a": BEHIND | {"op": "="}}, "preconditions.a.op: expected one of <, >, found '='"),
        (
            {"requires": ["a"]},
            {"a": BEHIND | {"left": "base.ood/accuracy"}},
            "preconditions.a.left: evaluate node 'base' has no",
        ),
        ({"requires": ["a"]}, {"a": BEHIND | {"right": "init.x"}}, "preconditions.a.right: 'init' is not evaluated"),
        (
            {"requires": ["a"]},
            {"a": BEHIND | {"right": math.inf}},
            "preconditions.a.right: expected a finite number, found inf",
        ),
        ({"op": "="}, {}, "claims[0].margin: a margin above 0 is required; found op '='"),
        ({"op": ">=", "margin": 0}, {}, "claims[0].margin: expected above 0, found 0"),
        ({"op": "<", "margin": 0.1}, {}, "claims[0].margin: a margin is for the ops =, >= and <=; found op '<'"),
        ({"op": "=="}, {}, "claims[0].op: expected one of <, >, =, >=, <=, found '=='"),
        ({"left": "base.test/accuracy - teacher.x"}, {}, "claims[0].left: evaluate node 'teacher' has no metric 'x'"),
        ({"left": "base.test/accuracy - 0.1"}, {}, "claims[0].left: expected node.metric, found '0.1'"),
        ({"right": "a.x - b.x - c.x"}, {}, "claims[0].right: expected node.metric, or a difference of two; found 3 terms"),
    ],
)
def test_mistakes_are_refused_with_their_place(tmp_path, claim, preconditions, says):
    with pytest.raises(UserError) as caught:
        build(tmp_path, claim=claim, preconditions=preconditions)
    assert str(caught.value).startswith(f"{tmp_path}/toy.yaml: {says}")


def test_two_used_papers_may_not_mean_different_things(tmp_path):
    for name in ("a", "b"):
        build(
            tmp_path,
            name,
            {"requires": ["behind"]},
            {"behind": BEHIND},
            **({"use": str(tmp_path / "a.yaml")} if name == "b" else {}),
        )
    graph = build(tmp_path, "c", {"requires": ["behind"]}, use=str(tmp_path / "b.yaml"))
    assert required(graph, "c")[0]["name"] == "behind"  # b's own goes before a's
    with pytest.raises(
        UserError, match=r"c.yaml: claims\[0\]\.requires\[0\]: 'behind' is a precondition of several used papers: a, b"
    ):
        build(tmp_path, "c", {"requires": ["behind"]}, use=[str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])


@pytest.fixture
def fake(tmp_path):
    return FakeResults(tmp_path)


def here(plan: Plan) -> dict:
    return next(claim for claim in judge(plan)["vopd"] if claim["id"] == "here")


def set_everywhere(plan: Plan, node: str, metric: str, *values: float | None) -> Plan:
    for seed, value in enumerate(values):
        plan = with_figure(plan, f"{node}/seed{seed}", metric, value)
    return plan


def test_one_that_is_not_met_makes_a_claim_untestable_and_keeps_its_figures(fake):
    plan = Plan.read(fake.plan_file, fake.root)
    plan = set_everywhere(plan, "quickstart/evaluate/student_sft", "test/accuracy", 0.8, 0.9, 1.0, 0.7, 0.6)
    found = here(plan)
    assert [needed["met"] for needed in found["requires"]] == [True, False]
    weak = found["requires"][1]
    assert weak["left"] == pytest.approx(0.8) and weak["right"] == 0.9
    assert found["direction"]["verdict"] == UNTESTABLE
    assert found["direction"]["reason"] == weak["says"] == "needs student_sft.test/accuracy > 0.9, found 0.8"
    assert found["direction"]["n"] == 5 and found["direction"]["p"] < 0.05 and found["direction"]["interval"]
    assert found["these_checkpoints"] and found["p_adjusted"] is None and not found["survives"]


def test_all_that_are_met_leave_the_verdict_alone(fake):
    plan = Plan.read(fake.plan_file, fake.root)
    found = here(set_everywhere(plan, "quickstart/evaluate/student_sft", "test/accuracy", 0.99, 0.99, 0.99, 0.99, 0.5))
    assert found["direction"]["verdict"] == UNTESTABLE  # the mean is .892
    found = here(set_everywhere(plan, "quickstart/evaluate/student_sft", "test/accuracy", 0.99, 0.99, 0.99, 0.99, 0.6))
    assert found["direction"]["verdict"] == HOLDS and found["direction"]["reason"] == "the 95 % interval excludes 0"


def test_a_mean_at_the_bound_does_not_meet_it(fake):
    plan = Plan.read(fake.plan_file, fake.root)
    found = here(set_everywhere(plan, "quickstart/evaluate/student_sft", "test/accuracy", 0.7, 1.1, 0.9, 0.9, 0.9))
    assert found["requires"][1]["left"] == pytest.approx(0.9) and found["requires"][1]["met"] is False


def test_one_that_is_not_measured_leaves_the_claim_not_measured(fake):
    plan = Plan.read(fake.plan_file, fake.root)
    found = here(set_everywhere(plan, "quickstart/evaluate/student_sft", "test/accuracy", 0.99, math.nan, 0.99, None, 0.99))
    assert found["requires"][1]["met"] is None and found["direction"]["verdict"] == UNMEASURED
    for said in (
        "seed1: test/accuracy is nan",
        "seed3 has no test/accuracy",
        "needs student_sft.test/accuracy > 0.9, not measured",
    ):
        assert said in found["direction"]["reason"]
    assert found["direction"]["effect"] is not None
    plan = set_everywhere(plan, "quickstart/evaluate/teacher", "test/avg_at_k", *[0.1] * 5)
    found = here(plan)  # one is not met for sure, whatever the other is
    assert found["direction"]["verdict"] == UNTESTABLE
    assert found["direction"]["reason"].startswith("needs teacher.test/avg_at_k > student_sft.test/avg_at_k, found 0.1 and 0.4")


def test_one_seed_is_enough_to_see_that_a_claim_is_not_testable(tmp_path):
    fake = FakeResults(tmp_path, seeds=(0,))
    found = here(Plan.read(fake.plan_file, fake.root))
    assert found["direction"]["verdict"] == UNTESTABLE and "found 0.4" in found["direction"]["reason"]
    assert found["direction"]["n"] == 1
