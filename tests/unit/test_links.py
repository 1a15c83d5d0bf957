"""References anywhere among a node's options, parts of nodes and a node's own learners, on a kind that is made up here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Optional

import pytest
import yaml

from opd_steps.config import plugs
from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.graph import outline, snakemake
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.code import used_plugs
from opd_steps.graph.kinds import KINDS, Node
from opd_steps.graph.nodes import Graph
from opd_steps.graph.options import ref
from opd_steps.store.artifacts import Job
from tests.unit.tiny_results import publish


@dataclass
class View:
    """A model as a teacher sees it."""

    model: str = ref("model", own=True)
    signal: Any = plug("objectives/signals", "log_ratio")
    decay: Annotated[float, "0 to 1"] = 0.5


@dataclass
class Learner:
    model: str = ref("model")


@dataclass
class Panel:
    judge: Optional[str] = ref("model", required=False)
    views: list[View] = field(default_factory=list)


@dataclass
class MutualNode(Node):
    PRODUCES: ClassVar[str] = "model"
    START: ClassVar[str] = "student"

    student: str = ref("model")
    learners: dict[str, Learner] = field(default_factory=dict)
    teachers: dict[str, View] = field(default_factory=dict)
    panel: Panel = field(default_factory=Panel)
    peers: list[str] = ref("model", many=True)

    @classmethod
    def parts(cls, node) -> tuple[str, ...]:
        return tuple(node.options["learners"])

    @classmethod
    def metrics(cls, node) -> list[str]:
        return ["train/loss", *(f"train/{part}/loss" for part in cls.parts(node))]


TOY = """
paper: {title: T}
nodes:
  data: {kind: data}
  one: {kind: model, data: data, config: {hidden_size: 8}}
  two: {kind: model, data: data, config: {hidden_size: 8}}
  three: {kind: model, data: data, config: {hidden_size: 8}}
  both: {kind: mutual, student: one, learners: {b: {model: two}}}
  x:
    kind: mutual
    student: one
    learners: {b: {model: "both:b"}}
    teachers:
      math: {model: "both:b", signal: jsd}
      old: {model: self}
      mate: {model: "self:b", decay: 0.9}
    panel: {judge: three, views: [{model: two}, {model: both}]}
    peers: [three, "both:b"]
evaluate: {models: [both, "both:b"], options: {data: data}}
scales:
  tiny: {nodes: {x: {teachers: {math: {decay: 0.25}}}}}
claims:
  - {id: a, says: s, left: "both:b.test/accuracy", right: both.test/accuracy}
  - {id: b, says: s, left: both.train/b/loss, right: 1}
"""


@pytest.fixture(autouse=True)
def mutual(monkeypatch):
    monkeypatch.setitem(KINDS, "mutual", MutualNode)


def graph(folder: Path, text: str = TOY) -> Graph:
    (folder / "toy.yaml").write_text(text)
    made = checked(Graph([str(folder / "toy.yaml")]))
    wanted(made)
    return made


def test_roles_are_option_paths_and_parts_and_own_learners_are_told(tmp_path):
    made = graph(tmp_path)
    x = made.find("toy", "x")
    assert {role: (parent.name, x.parts[role]) for role, parent in x.parents.items()} == {
        "student": ("one", ""),
        "learners.b.model": ("both", "b"),
        "teachers.math.model": ("both", "b"),
        "panel.judge": ("three", ""),
        "panel.views.0.model": ("two", ""),
        "panel.views.1.model": ("both", ""),
        "peers.0": ("three", ""),
        "peers.1": ("both", "b"),
        "teachers.old.model": ("one", ""),  # what the learner starts from
        "teachers.mate.model": ("both", "b"),
    }
    assert x.own == {"teachers.old.model": "", "teachers.mate.model": "b"}
    assert {role: x.root_of(role).name for role in ("student", "learners.b.model", "panel.views.1.model")} == {
        "student": "one",
        "learners.b.model": "two",  # both:b started from it
        "panel.views.1.model": "one",
    }


def test_named_dataclasses_are_merged_over_defaults_and_their_plugs_filled(tmp_path):
    teachers = graph(tmp_path).find("toy", "x").options["teachers"]
    assert teachers["math"] == {"model": "both:b", "signal": {"name": "jsd", "beta": 0.5}, "decay": 0.25}
    assert teachers["old"] == {"model": "self", "signal": {"name": "log_ratio"}, "decay": 0.5}
    assert ("objectives/signals", "jsd") in used_plugs(MutualNode, graph(tmp_path).find("toy", "x").options)


def test_a_job_depends_on_paths_and_not_on_names(tmp_path):
    config = json.loads(graph(tmp_path).find("toy", "x").job_config(0))
    assert config["parents"]["teachers.math.model"] == config["parents"]["peers.1"] == "toy/mutual/both/seed0:b"
    assert config["parents"]["teachers.old.model"] == config["parents"]["student"] == "toy/model/one/seed0"
    options = config["options"]
    assert options["teachers"]["old"]["model"] == "self" and options["teachers"]["mate"]["model"] == "self:b"
    assert options["teachers"]["math"].keys() == {"signal", "decay"} and options["peers"] == [None, None]
    assert "student" not in options and options["panel"]["views"][0].keys() == {"signal", "decay"}
    renamed = TOY.replace("two:", "deux:").replace("model: two", "model: deux")
    other = json.loads(graph(tmp_path, renamed).find("toy", "x").job_config(0))
    assert other["options"] == options and other["parents"] != config["parents"]


def test_snakemake_reads_every_parent_by_a_name_without_dots(tmp_path, monkeypatch):
    made = graph(tmp_path)
    monkeypatch.setattr(snakemake, "_graph", made, raising=False)
    job = type("Wildcards", (), {"paper": "toy", "node": "x", "seed": "0"})
    read = snakemake.parents("mutual", job)
    assert read["teachers__math__model"] == read["peers__1"] == "<results>/toy/mutual/both/seed0/manifest.json"
    assert len(read) == len(made.find("toy", "x").parents) and all(name.isidentifier() for name in read)


def test_a_part_is_evaluated_and_claimed_by_its_name(tmp_path):
    made = graph(tmp_path)
    assert (made.evaluation("toy", "both").name, made.evaluation("toy", "both", "b").name) == ("both", "both__b")
    assert made.evaluation("toy", "both", "b").parts["model"] == "b"
    plan = outline.make(made, {"seeds": [0]})["papers"]["toy"]
    assert plan["nodes"]["evaluate/both__b"]["parents"]["model"] == "toy/mutual/both:b"
    left = [(claim["left"]["label"], *claim["left"]["terms"]) for claim in plan["claims"]]
    assert (left[0][0], left[0][1]["paths"]["0"]) == ("both:b.test/accuracy", "toy/evaluate/both__b/seed0")
    assert (left[1][1]["metric"], left[1][1]["paths"]["0"]) == ("train/b/loss", "toy/mutual/both/seed0")


def test_a_job_reads_the_folder_of_the_part(tmp_path):
    (tmp_path / "toy/mutual/both/seed0").mkdir(parents=True)
    publish(tmp_path / "toy/mutual/both/seed0", {})
    parents = {"student": "toy/mutual/both/seed0", "teachers.math.model": "toy/mutual/both/seed0:b"}
    config = {"kind": "mutual", "options": {}, "parents": parents, "seed": 0}
    job = Job(config, {}, tmp_path / "toy/mutual/x/seed0/manifest.json")
    assert job.path("student", "model") == tmp_path / "toy/mutual/both/seed0/model"
    assert job.path("teachers.math.model", "model") == tmp_path / "toy/mutual/both/seed0/parts/b/model"
    assert job.manifests["student"] == job.manifests["teachers.math.model"]


@dataclass
class RootNode(Node):
    PRODUCES: ClassVar[str] = "model"

    family: Any = plug("models/families", "masked_lm")


def test_whoever_reads_a_model_runs_the_family_that_its_root_names(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "root", RootNode)
    made = graph(tmp_path, TOY.replace("two: {kind: model, data: data, config: {hidden_size: 8}}", "two: {kind: root}"))
    family = plugs.plug_path("models/families", "masked_lm")
    runs = {name: family in made.find("toy", name).files for name in ("one", "two", "both", "x")}
    assert runs == {"one": False, "two": True, "both": True, "x": True}
    assert family in made.evaluation("toy", "both", "b").files and family not in made.evaluation("toy", "both").files


PLACES = {
    "nobody": ("judge: three", "judge: threee", "nodes.x.panel.judge: unknown name 'threee'. Did you mean: 'three'?"),
    "no model": ("judge: three", "judge: data", "nodes.x.panel.judge: 'data' is a data node; expected one of: model, "),
    "no part": ('peers: [three, "both:b"]', 'peers: ["both:c"]', "nodes.x.peers[0]: 'both' has no part 'c'; its parts: b"),
    "no parts": ("views: [{model: two}", 'views: [{model: "two:b"}', "nodes.x.panel.views[0].model: 'two' has no part 'b'; it has no"),
    "no learner": ('"self:b"', '"self:c"', "nodes.x.teachers.mate.model: 'x' has no part 'c'; its parts: b"),
    "self elsewhere": ("judge: three", "judge: self", "nodes.x.panel.judge: unknown name 'self'"),
    "a list in a name": ("judge: three", "judge: [three]", "nodes.x.panel.judge: expected text, found ['three']"),
    "required": ('{model: "self:b", decay: 0.9}', "{decay: 0.9}", "nodes.x.teachers.mate.model: this key is required"),
    "unknown key": ("decay: 0.9", "dekay: 0.9", "nodes.x.teachers.mate.dekay: unknown key. Did you mean: 'decay'?"),
    "a scale's": ("math: {decay: 0.25}", "math: {decay: 2}", "scales.tiny.nodes.x.teachers.math.decay: expected 0 to 1, found 2"),
    "a plug": ("signal: jsd", "signal: jsdd", "nodes.x.teachers.math.signal: no signals named 'jsdd'. Did you mean: 'jsd'?"),
    "a key": ("old: {model: self}", '"o l": {model: self}', "nodes.x.teachers.o l: a name is made of letters"),
    "a key with __": ("old: {model: self}", "o__l: {model: self}", "nodes.x.teachers.o__l: a name is made of letters"),
    "no mapping": ("learners: {b: {model: two}}", "learners: [two]", "nodes.both.learners: expected a mapping, found ['two']"),
    "pinned": ("kind: mutual\n", "kind: mutual\n    seed: 3\n", "nodes.x.seed: this node is pinned to one seed but reads 'one'"),
    "a node called self": ("three:", "self:", "nodes.self: a node's name is made of"),
    "evaluated": ('[both, "both:b"]', '["both:c"]', "evaluate.models: 'both' has no part 'c'"),
    "claimed": ('"both:b.test', '"both:c.test', "claims[0].left: 'both' has no part 'c'; its parts: b"),
    "not evaluated": ('[both, "both:b"]', "[both]", "claims[0].left: 'both:b' is not evaluated; add it to evaluate"),
    "not so": ("both.train/b/loss", '"both:b.train/loss"', "claims[1].left: what a part draws is its node's: both.train/b/loss"),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACES)
def test_mistakes_name_file_and_key(tmp_path, case):
    old, new, says = PLACES[case]
    assert TOY.count(old) == 1
    with pytest.raises(UserError) as error:
        graph(tmp_path, TOY.replace(old, new))
    assert str(error.value).startswith(f"{tmp_path}/toy.yaml: {says}") and "\n" not in str(error.value)


def test_two_evaluations_of_one_name_are_refused(tmp_path):
    text = TOY.replace("  both: {", "  both__b: {kind: model, data: data, config: {hidden_size: 8}}\n  both: {").replace(
        '[both, "both:b"]', '[both__b, "both:b"]'
    )
    with pytest.raises(UserError, match=r"evaluate.models: 'both:b' would be evaluated as 'both__b', and another node is"):
        graph(tmp_path, text)


def test_another_paper_evaluates_a_part_once(tmp_path):
    graph(tmp_path)
    user = {"paper": {"title": "U"}, "use": str(tmp_path / "toy.yaml")}
    user["evaluate"] = {"models": ["both:b"], "options": {"data": "data"}}
    (tmp_path / "user.yaml").write_text(yaml.safe_dump(user))
    made = Graph([str(tmp_path / "user.yaml")])
    assert made.evaluation("user", "both", "b").paper == "toy"
