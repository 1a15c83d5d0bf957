"""The code of what controllers bring during training belongs to the node: a change of it reruns the node."""

from __future__ import annotations

from omegaconf import OmegaConf

from opd_steps.graph import Graph

MODEL = {"kind": "model", "data": "data", "config": {"hidden_size": 32}}
SWITCHES = [
    {"name": "switch", "sets": "method.signal", "to": "jsd"},
    {"name": "switch", "sets": "method.transform", "to": ["floor", "add_outcome"]},
]


def node(tmp_path, **options):
    opd = {"kind": "opd", "student": "init", "teacher": "init", "data": "data", "sampling": {"n": 2}, **options}
    paper = {
        "paper": {"title": "t"},
        "nodes": {"data": {"kind": "data"}, "init": MODEL, "opd": opd},
        "claims": [{"id": "c", "says": "s", "left": "opd.train/loss", "right": 0.5}],
    }
    OmegaConf.save(paper, tmp_path / "toy.yaml")
    return Graph([str(tmp_path / "toy.yaml")]).nodes["toy", "opd", "opd"]


def test_the_code_of_a_later_phase_belongs_to_the_node(tmp_path):
    plain, phased = node(tmp_path).code, node(tmp_path, controllers=SWITCHES).code
    brought = {f"opd_steps/objectives/{name}.py" for name in ("signals/jsd", "transforms/floor", "transforms/add_outcome")}
    assert brought <= set(phased)
    assert not brought & set(plain)
