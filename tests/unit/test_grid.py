"""Sweeps: which variants a grid makes, what they are called, who may name them, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from opd_steps.errors import UserError
from opd_steps.graph import outline
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.grid import nested, variants
from opd_steps.graph.nodes import Graph

PAPER = """
paper: {title: T}
nodes:
  data: {kind: data}
  init: {kind: model, data: data, config: {hidden_size: 8}}
  teacher: {kind: pretrain, model: init, data: data, steps: 7, batch: 8}
  start: {kind: sft, student: init, data: data}
  opd: {kind: opd, student: start, teacher: teacher, data: data, steps: 6, optim: {lr: 1.0e-3, warmup: 0.1}, grid: GRID}
evaluate: {models: [start, opd], options: {data: data}}
claims: [{id: c, says: s, left: "opd__lr_0_1_rkl.test/avg_at_k", op: ">", right: "opd__lr_0_1_fkl.test/avg_at_k"}]
scales: {tiny: {nodes: {opd: {steps: 5, optim: {lr: 9.0}}, opd__lr_0_2_fkl: {prompts: 3}}}}
"""
FULL = "signal: {0}, support: full, estimator: exact"
EXACT = f"{{optim.lr: [0.1, 0.2], method: {{rkl: {{{FULL.format('rkl')}}}, fkl: {{{FULL.format('fkl')}}}}}}}"


def graph(folder, grid: str = EXACT, edit=("", "")) -> Graph:
    (folder / "toy.yaml").write_text(PAPER.replace("GRID", grid).replace(*edit))
    found = checked(Graph([str(folder / "toy.yaml")]))
    wanted(found)
    return found


def test_each_combination_is_a_node_with_its_values_over_all_that_is_written(tmp_path):
    found = graph(tmp_path)
    names = [f"opd__lr_{lr}_{signal}" for lr in ("0_1", "0_2") for signal in ("rkl", "fkl")]
    assert [name for _, kind, name in found.nodes if kind == "opd"] == names
    for name in names:
        options = found.nodes["toy", "opd", name].options
        assert options["optim"]["lr"] == (0.1 if "0_1" in name else 0.2) and options["optim"]["warmup"] == 0.1
        assert options["method"]["signal"]["name"] == name[-3:]
        assert options["steps"] == 5  # of the scale, for all of them
        assert options["prompts"] == 3 or name != "opd__lr_0_2_fkl"  # and for one
        assert found.find("toy", name).parents["student"] is found.find("toy", "start")
    assert {name for _, kind, name in found.nodes if kind == "evaluate"} == {"start", *names}


def test_the_plan_tells_families_and_values(tmp_path):
    nodes = outline.make(graph(tmp_path), {"seeds": [0]})["papers"]["toy"]["nodes"]
    for kind in ("opd", "evaluate"):
        node = nodes[f"{kind}/opd__lr_0_1_rkl"]
        assert node["family"] == "opd" and node["point"]["optim.lr"] == 0.1
    assert nodes["sft/start"]["family"] == "" and nodes["evaluate/start"]["point"] == {}


def test_a_paper_that_uses_it_names_variants_and_may_evaluate_the_family(tmp_path):
    graph(tmp_path)
    user = {"paper": {"title": "U"}, "use": str(tmp_path / "toy.yaml"), "nodes": {}}
    user["nodes"]["more"] = {"kind": "opd", "student": "opd__lr_0_1_rkl", "teacher": "teacher", "data": "data"}
    user["evaluate"] = {"models": ["more", "opd"], "options": {"data": "data"}}
    (tmp_path / "user.yaml").write_text(yaml.safe_dump(user))
    found = checked(Graph([str(tmp_path / "user.yaml")]))
    assert found.find("user", "more").parents["student"].name == "opd__lr_0_1_rkl"
    evaluated = [(paper, name) for paper, kind, name in found.nodes if kind == "evaluate"]
    assert ("user", "more") in evaluated and sum(name.startswith("opd__") for _, name in evaluated) == 4  # once, by their owner


def test_names_are_the_values_own_where_they_can_be():
    assert list(variants("a", {"optim.lr": {"low": 1e-4, "high": 1e-3}}, "w")) == ["a__low", "a__high"]
    assert list(variants("a", {"prompts": [8, 16]}, "w")) == ["a__prompts_8", "a__prompts_16"]
    assert list(variants("a", {"x": ["1", True, None]}, "w")) == ["a__x_1", "a__x_True", "a__x_None"]
    assert nested({"optim.lr": 1, "optim.warmup": 2, "k": 3}) == {"optim": {"lr": 1, "warmup": 2}, "k": 3}


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ("3", "nodes.opd.grid: expected {option: [values]}"),
        ("{}", "nodes.opd.grid: expected {option: [values]}"),
        ("{optim.lr: 0.1}", "nodes.opd.grid.optim.lr: expected {option: [values]}"),
        ("{optim.lr: []}", "nodes.opd.grid.optim.lr: expected {option: [values]}"),
        ("{optim.lr: [0.1, 0.1]}", "nodes.opd.grid.optim.lr: a value stands twice"),
        ("{optim.lr: {'a b': 0.1}}", "nodes.opd.grid.optim.lr: a name is made of letters"),
        ("{'a[0].b': [1]}", "nodes.opd.grid.a[0].b: expected the path of an option"),
        ("{optim: [{lr: 1}]}", "nodes.opd.grid.optim: values that are mappings or lists need names"),
        ("{optim.lr: [-3]}", "nodes.opd.grid.optim.lr: "),
        ("{optim.lrr: [1]}", "nodes.opd.grid.optim.lrr: "),
        ("{optim.lr: {x: 1}, prompts: {y_z: 1, y: 2}, steps: {w: 1, z_w: 2}}", "two variants would be called 'opd__x_y_z_w'"),
    ],
)
def test_what_makes_no_variants_is_refused(tmp_path, grid, says):
    with pytest.raises(UserError) as caught:
        graph(tmp_path, grid)
    assert says in str(caught.value)


def test_a_variant_may_not_take_a_nodes_name_nor_the_family_be_read(tmp_path):
    with pytest.raises(UserError, match="a variant of it and another node are both called 'opd__x'"):
        graph(tmp_path, "{optim.lr: {x: 1}}", ("  start:", "  opd__x: {kind: data}\n  start:"))
    with pytest.raises(UserError, match="opd"):
        graph(tmp_path, EXACT, ("evaluate:", "  after: {kind: opd, student: opd, teacher: teacher, data: data}\nevaluate:"))
