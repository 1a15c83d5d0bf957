"""Teachers, learners and what they name: each mistake is one line with its key, before any job starts."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from opd_steps.config.teachers import named
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph

NODES = {
    "data": {"kind": "data"},
    "hinted": {"kind": "data", "hints": "marks"},
    "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
    "student": {"kind": "sft", "student": "init", "data": "data"},
    "one": {"kind": "pretrain", "model": "init", "data": "data"},
    "two": {"kind": "pretrain", "model": "init", "data": "data", "steps": 7},
    "rollouts": {"kind": "rollout", "policy": "student", "data": "data"},
    "others": {"kind": "rollout", "policy": "one", "data": "data"},
    "several": {"kind": "rollout", "policy": "one", "data": "data", "sampling": {"n": 4}},
    "elsewhere_said": {"kind": "rollout", "policy": "one", "data": "hinted"},
    "elsewhere_one": {"kind": "rollout", "policy": "one", "data": "hinted", "sampling": {"n": 1}},
    "tested": {"kind": "rollout", "policy": "one", "data": "data", "split": "test"},
    "scores": {"kind": "score", "rollouts": "rollouts", "teacher": "one", "topk": 4},
    "scores_two": {"kind": "score", "rollouts": "rollouts", "teacher": "two", "topk": 4},
    "elsewhere": {"kind": "score", "rollouts": "others", "teacher": "two", "topk": 4},
    "cool": {"kind": "rollout", "policy": "student", "data": "data", "sampling": {"temperature": 0.7}},
    "of_cool": {"kind": "score", "rollouts": "cool", "teacher": "one", "temperature": 1.0},
}
WRITTEN = {"method": {"prefix": "dataset", "signal": "fkl", "support": "full", "estimator": "exact"}}
ROUTED = {"weights": {"name": "routed", "column": "domain", "to": {"x": "a", "y": "b"}}}
A_AND_B = {"a": {"model": "one"}, "b": {"model": "two"}}


def against(name: str, *others: str, **more) -> dict:
    return {"method": {"against": name, "add": [{"against": other} for other in others], **more}}


def build(folder, **options) -> Graph:
    own = {"kind": "opd", "student": "student", "data": "data", **options}
    OmegaConf.save({"paper": {"title": "t"}, "nodes": {**NODES, "x": own}}, folder / "toy.yaml")
    return checked(Graph([str(folder / "toy.yaml")]))


REFUSED = {
    # who teaches
    "nobody": ({}, "x: an opd node reads either a teacher or scores"),
    "both short forms": ({"teacher": "one", "scores": "scores"}, "x: an opd node reads either a teacher or scores, not both"),
    "teacher twice": ({"teacher": "one", "teachers": {"teacher": {"model": "two"}}}, "x.teachers.teacher: named twice"),
    "reference twice": (
        {"teacher": "one", "reference": "init", "teachers": {"reference": {"model": "two"}}},
        "x.teachers.reference: named twice",
    ),
    "scores at another temperature": (
        {"scores": "scores", "sampling": {"temperature": 0.7}},
        "x.sampling.temperature: the teacher was asked at 1.0, where the student would be at 0.7: expected 1.0",
    ),
    "stop strings where nobody samples": (
        {"scores": "scores", "sampling": {"stop": ["b"]}},
        "x.sampling.stop: with scores nobody samples: leave it out",
    ),
    "scores of a cooler sampler, and its ratio": (
        {"scores": "of_cool", "method": {"estimator": {"name": "pg", "ratio": "sampler"}}},
        "x.method: the rollouts were drawn at 0.7, the student is asked at 1.0: the sampler's log-probs are of no use",
    ),
    # a teacher's texts
    "texts for nobody": ({"teacher": "one", "answers": "others"}, "x.answers: is read by nothing in this node"),
    "a judge without texts": ({"teacher": "one", "judges": ["rubric"]}, "x.answers: is needed by this node's select, judges or hooks"),
    "texts of other prompts": (
        {"teacher": "one", "judges": ["rubric"], "answers": "elsewhere_said"},
        "x.answers: expected answers to the prompts of data, split train; found those of hinted, split train",
    ),
    "texts of another split": (
        {"teacher": "one", "judges": ["rubric"], "answers": "tested"},
        "x.answers: expected answers to the prompts of data, split train; found those of data, split test",
    ),
    # samples in place of a column
    "samples for nobody": ({"teacher": "one", "texts": "others"}, "x.texts: is read by nothing in this node"),
    "samples for a corpus": (
        {"teacher": "one", "texts": "others", "method": {"prefix": "corpus", "signal": "fkl", "support": "full", "estimator": "exact"}},
        "x.texts: corpus reads no samples in a column's place",
    ),
    "several samples": (
        {"teacher": "one", "texts": "several", **WRITTEN},
        "x.texts: expected one sample of each prompt to train on; several has sampling.n 4",
    ),
    "samples of other prompts": (
        {"teacher": "one", "texts": "elsewhere_one", **WRITTEN},
        "x.texts: expected answers to the prompts of data; found those of hinted",
    ),
    "student as a name": ({"teachers": {"student": {"model": "one"}}}, "x.teachers.student: student, self, sampler mean something else"),
    "sampler as a name": ({"teachers": {"sampler": {"model": "one"}}}, "x.teachers.sampler: student, self"),
    "an odd name": ({"teachers": {"a-b": {"model": "one"}}}, "x.teachers.a-b: a name is made of letters, digits and single"),
    "self as a learner": ({"teacher": "one", "learners": {"self": {"model": "two"}}}, "x.learners.self: student, self"),
    "scores of two tables": (
        {"teachers": {"a": {"scores": "scores"}, "b": {"scores": "elsewhere"}}, **against("a", "b")},
        "x.teachers: all scores of a node are of the same rollouts",
    ),
    # one teacher
    "scores and a model": (
        {"teachers": {"a": {"scores": "scores", "model": "one"}}, **against("a")},
        "x.teachers.a: with scores there is no teacher to run: leave out model, weights, context and engine",
    ),
    "scores that move": ({"teachers": {"a": {"scores": "scores", "weights": "ema"}}, **against("a")}, "x.teachers.a: with scores there"),
    "scores in a context": ({"teachers": {"a": {"scores": "scores", "context": "demo"}}, **against("a")}, "x.teachers.a: with scores"),
    "a routed model": (
        {"teachers": {**A_AND_B, "r": {**ROUTED, "model": "one"}}, **against("r")},
        "x.teachers.r.model: weights routed has no model of its own; leave it out",
    ),
    "a routed context": (
        {"teachers": {**A_AND_B, "r": {**ROUTED, "context": "demo"}}, **against("r")},
        "x.teachers.r.context: what each of the teachers among whom rows are routed sees is its own; leave it out",
    ),
    "no model": ({"teachers": {"a": {"context": "demo"}}, **against("a")}, "x.teachers.a.model: this key is required: a model node"),
    "a node as it stands": (
        {"teachers": {"a": {"model": "one", "weights": "current"}}, **against("a")},
        "x.teachers.a.model: weights current are those of a learner: self or self:<learner>",
    ),
    "nobody as it stands": (
        {"teacher": "one", "teacher_source": "current"},
        "x.teacher_source: current is not for a teacher node: teachers: {x: {model: self, weights: current}}",
    ),
    "a short form that is routed": (
        {"teacher": "one", "teacher_source": "routed"},
        "x.teacher_source: routed is not for a teacher node: teachers: {x: {weights: routed}}",
    ),
    "no such learner": (
        {"teachers": {"a": {"model": "self:peer", "weights": "current"}}, **against("a")},
        "x.teachers.a.model: 'x' has no part 'peer'; it has no parts",
    ),
    # routes
    "a route to nobody": (
        {"teachers": {"a": {"model": "one"}, "r": ROUTED}, **against("r")},
        "x.teachers.r.weights.to: no teacher 'b'; known here: a",
    ),
    "a route to a router": (
        {"teachers": {**A_AND_B, "r": ROUTED, "s": {"weights": {"name": "routed", "to": {"x": "r"}}}}, **against("s", "r")},
        "x.teachers.s.weights.to: no teacher 'r'; known here: a, b",
    ),
    "a route between an engine and a model": (
        {"teachers": {"a": {"model": "one", "engine": {"name": "vllm"}}, "b": {"model": "two"}, "r": ROUTED}, **against("r")},
        "x.teachers.r.weights: those among whom rows are routed answer alike: all of them scores, all engines, or all local",
    ),
    "an engine for several processes": (
        {"teachers": {"a": {"model": "one", "engine": {"name": "vllm"}}}, **against("a"), "resources": {"processes": 2}},
        "x.resources.processes: teachers.a.engine vllm works in one process: expected 1, found 2; or teachers.a.engine.name: server",
    ),
    "per-record gradients in several processes": (
        {"teacher": "one", "gradient": "per_record", "resources": {"processes": 2}},
        "x.gradient: per_record works in one process: expected resources.processes 1, found 2",
    ),
    # who is asked
    "an unasked teacher": ({"teacher": "one", "teachers": A_AND_B}, "x.teachers.a: no term, source or judge of this node asks this teacher"),
    "an unasked one of two": ({"teachers": A_AND_B, **against("b")}, "x.teachers.a: no term, source or judge"),
    "a stranger": ({"teachers": A_AND_B, **against("c", "a", "b")}, "x.method.against: this term asks 'c'; the node's teachers are a, b"),
    "a stranger further on": ({"teachers": A_AND_B, **against("a", "b", "c")}, "x.method.add[1].against: this term asks 'c'"),
    "a mask of a stranger": (
        {"teachers": A_AND_B, **against("a", where=[{"name": "more_likely_by", "first": "a", "second": "c"}])},
        "x.method: this term asks 'c'; the node's teachers are a, b",
    ),
    # contexts
    "attempts that nobody shows": (
        {"teachers": {"a": {"model": "one", "context": "demo"}}, **against("a")},
        "x.teachers.a.context: demo shows attempts",
    ),
    "feedback of a silent verifier": (
        {"data": "hinted", "sampling": {"n": 2}, "teachers": {"a": {"model": "self", "context": "retrospect"}}, **against("a")},
        "x.teachers.a.context.feedback: retrospect shows what the verifier says of wrong samples, and 'numeric' says nothing",
    ),
    "attempts of the short form": ({"teacher": "one", "context": "demo"}, "x.context: demo shows attempts, and the data node"),
    "peers of one sample": (
        {"data": "hinted", "teachers": {"a": {"model": "one", "context": "peers"}}, **against("a")},
        "x.sampling.n: the context peers compares samples of one prompt: 2 or more",
    ),
    "confidences of no verifier": (
        {"data": "hinted", "sampling": {"n": 2}, "teachers": {"a": {"model": "one", "context": "calibrated"}}, **against("a")},
        "x.teachers.a.context: calibrated restates confidences; the data's verifier must be with_confidence",
    ),
    # who samples
    "a sampler that is none": (
        {"teachers": A_AND_B, **against("a", "b", prefix="teacher")},
        "x.method.prefix: teacher lets 'teacher' sample, and the node names no such model",
    ),
    "mixed with nobody": ({"teachers": A_AND_B, **against("a", "b", prefix="token_mix")}, "x.method.prefix: token_mix lets 'teacher' sample"),
    "a sampler that is the student": (
        {"teachers": {"teacher": {"model": "self", "weights": "current"}}, **against("teacher", prefix="teacher")},
        "x.method.prefix: teacher lets 'teacher' sample, and the node names no such model",
    ),
    "rows of nobody": (
        {"teachers": {"a": {"model": "one"}}, "method": {"against": "a", "add": [{"against": "a", "rows": "teacher"}]}},
        "x.method.add[0].rows: teacher lets 'teacher' sample, and the node names no such model",
    ),
    "a teacher of a domain that is nobody": (
        {"teachers": A_AND_B, "method": {"prefix": {"name": "routed", "to": {"x": "a", "y": "c"}}, "estimator": "mle"}},
        "x.method.prefix: routed lets 'c' sample, and the node names no such model",
    ),
    "a teacher of a domain behind a server": (
        {
            "teachers": {**A_AND_B, "b": {"model": "two", "engine": {"name": "server"}}},
            "method": {"prefix": {"name": "routed", "to": {"x": "a", "y": "b"}}, "estimator": "mle"},
        },
        "x.teachers.b.engine.name: rows that the teacher samples (routed) need its own model: use local",
    ),
    "mixed in an engine": (
        {"teacher": "one", "engine": {"name": "vllm"}, **against("teacher", prefix="token_mix")},
        "x.engine.name: tokens are drawn from student and teacher at once (token_mix): use local",
    ),
    "a learner mixed in an engine": (
        {
            "teacher": "one",
            "engine": {"name": "vllm"},
            "learners": {"peer": {"model": "two", "method": {"prefix": "token_mix"}}},
        },
        "x.engine.name: tokens are drawn from student and teacher at once (token_mix): use local",
    ),
    "samples of an engine's teacher": (
        {"teacher": "one", "teacher_engine": {"name": "vllm"}, **against("teacher", prefix="teacher")},
        "x.teacher_engine.name: rows that the teacher samples (teacher) need its own model: use local",
    ),
    # learners
    "shared with nobody": (
        {"teacher": "one", "learners": {"peer": {"model": "two", "method": {"prefix": {"name": "shared", "learner": "pear"}}}}},
        "x.learners.peer.method.prefix.learner: no learner 'pear' before this one; before it: the student ('')",
    ),
    "the student's own, shared": (
        {"teacher": "one", **against("teacher", prefix="shared")},
        "x.method.prefix.learner: no learner '' before this one; before it: none",
    ),
    "outcomes of shared rows of the data": (
        {
            "teacher": "one",
            "sampling": {"n": 2},
            "method": {"prefix": "dataset"},
            "learners": {"peer": {"model": "two", "method": {"prefix": "shared", "signal": "outcome"}}},
        },
        "x.learners.peer.method: a part of this term asks who sampled the rows",
    ),
    "shared with one that has no prefix": (
        {
            "teacher": "one",
            "method": {"rows": "dataset", "estimator": "mle"},
            "learners": {"peer": {"model": "two", "method": {"prefix": "shared"}}},
        },
        "x.learners.peer.method.prefix.learner: all terms of that learner look at other `rows`",
    ),
    "shared with a later one": (
        {
            "teacher": "one",
            "learners": {
                "p": {"model": "two", "method": {"prefix": {"name": "shared", "learner": "q"}}},
                "q": {"model": "two"},
            },
        },
        "x.learners.p.method.prefix.learner: no learner 'q' before this one",
    ),
    "a mistake of a learner's": (
        {"teacher": "one", "learners": {"peer": {"model": "two", "method": {"estimator": "exact"}}}},
        "x.learners.peer.method.support: exact sums over a set of tokens",
    ),
    "learners that reuse rows": (
        {"teacher": "one", "buffer": {"passes": 2}, "learners": {"peer": {"model": "two"}}},
        "x.buffer.batches: with several learners each step trains on fresh rows: batches 1, passes 1",
    ),
    "learners of a file": ({"scores": "scores", "learners": {"peer": {"model": "two"}}}, "x.learners: with scores there are only"),
    "judges of a file": ({"scores": "scores", "judges": ["overlong"]}, "x.judges: with scores there are only"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_its_key(tmp_path, case):
    options, reason = REFUSED[case]
    with pytest.raises(UserError) as error:
        build(tmp_path, **options)
    assert f"toy.yaml: nodes.{reason}" in str(error.value) and "\n" not in str(error.value)


WORKS = {
    "named alone": {"teachers": A_AND_B, **against("a", "b")},
    "beside the short forms": {"teacher": "one", "reference": "init", "teachers": {"b": {"model": "two"}}, **against("teacher", "b")},
    "itself in a context": {"data": "hinted", "teachers": {"a": {"model": "self", "weights": "ema", "context": "demo"}}, **against("a")},
    "routed": {"teachers": {**A_AND_B, "r": ROUTED}, **against("r")},
    "a mask's teachers": {
        "teacher": "one",
        "teachers": A_AND_B,
        **against("teacher", where=[{"name": "more_likely_by", "first": "a", "second": "b"}]),
    },
    "scores at 1 of a cooler sampler": {"scores": "of_cool"},
    "two tables of one set of rollouts": {"teachers": {"a": {"scores": "scores"}, "b": {"scores": "scores_two"}}, **against("a", "b")},
    "each other": {
        "teachers": {"a": {"model": "self", "weights": "current"}, "b": {"model": "self:peer", "weights": "current"}},
        "learners": {"peer": {"model": "two", "method": {"against": "a", "prefix": "shared"}}},
        **against("b"),
    },
    "asked by a controller alone": {
        "teachers": A_AND_B,
        "controllers": [{"name": "switch", "sets": "method.where", "to": [{"name": "more_likely_by", "first": "a", "second": "b"}]}],
        **against("a"),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", WORKS)
def test_what_can_work_is_not(tmp_path, case):
    node = build(tmp_path, **WORKS[case]).find("toy", "x")
    assert named(node.options, node.parents)


def test_the_run_s_engine_is_that_of_every_frozen_teacher_that_does_not_name_its_own(tmp_path):
    own = {"model": "two", "engine": {"name": "local"}}
    teachers = {"a": {"model": "one"}, "b": own, "me": {"model": "self"}, "moving": {"model": "one", "weights": "ema"}}
    node = {"kind": "opd", "student": "student", "data": "data", "teachers": teachers, **against("a", "b", "me", "moving")}
    OmegaConf.save({"paper": {"title": "t"}, "nodes": {**NODES, "x": node}}, tmp_path / "toy.yaml")
    options = (
        checked(Graph([str(tmp_path / "toy.yaml")], engines={"teacher_engine": "server"})).nodes["toy", "opd", "x"].options
    )
    found = {name: teacher["engine"]["name"] for name, teacher in options["teachers"].items()}
    assert found == {"a": "server", "b": "local", "me": "local", "moving": "local"}


def test_a_node_whose_name_begins_like_self_is_a_node(tmp_path):
    node = {"kind": "opd", "student": "student", "data": "data", "teachers": {"a": {"model": "selfish"}}, **against("a")}
    nodes = {**NODES, "selfish": NODES["one"], "x": node}
    OmegaConf.save({"paper": {"title": "t"}, "nodes": nodes}, tmp_path / "toy.yaml")
    found = checked(Graph([str(tmp_path / "toy.yaml")])).nodes["toy", "opd", "x"]
    assert named(found.options, found.parents)["a"].own is None and not found.own


def test_minibatches_of_a_learner_are_those_of_its_node(tmp_path):
    peer = {"model": "one", "method": {"weight": [{"name": "tip"}]}}
    with pytest.raises(UserError, match=r"nodes\.x\.minibatches: tip looks at the whole batch"):
        build(tmp_path, teacher="two", learners={"peer": peer}, minibatches=2, sampling={"n": 2})
