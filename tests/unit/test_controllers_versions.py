"""What controllers bring during training: its code belongs to the node, and its needs are met from the start."""

from __future__ import annotations

import torch
from omegaconf import OmegaConf

from opd_steps.config.needs import outcome_need, terms
from opd_steps.config.versions import versions
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.loop.buffer import RolloutBuffer
from opd_steps.loop.checkpoint import load, save
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.trajectory import Trajectory

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
    return checked(Graph([str(tmp_path / "toy.yaml")])).nodes["toy", "opd", "opd"]


def test_the_code_of_a_later_phase_belongs_to_the_node(tmp_path):
    plain, phased = node(tmp_path).code, node(tmp_path, controllers=SWITCHES).code
    brought = {f"opd_steps/objectives/{name}.py" for name in ("signals/jsd", "transforms/floor", "transforms/add_outcome")}
    assert brought <= set(phased)
    assert not brought & set(plain)


def test_the_needs_of_a_later_phase_are_known_from_the_start(tmp_path):
    asked = lambda node: any(outcome_need(row) for version in versions(node.options) for row in terms(version["method"]))
    assert not asked(node(tmp_path)) and asked(node(tmp_path, controllers=SWITCHES))


def test_a_resumed_buffer_knows_whose_rows_it_holds(tmp_path):
    def make(step, version):
        tokens = [torch.tensor([2, 3]), torch.tensor([4])]
        columns = {"logp": [torch.zeros(2), torch.zeros(1)], "reward_B": torch.zeros(2), "version_B": torch.zeros(2).long()}
        rows = Trajectory([[1], [1]], tokens, torch.tensor([0, 1]), **columns, ended_B=torch.ones(2).bool())
        return Batch(rows.with_columns(extra={"source": ["student", "teacher"]}), metrics={"length": 1.5})

    before, after = RolloutBuffer(make, 2, 2), RolloutBuffer(make, 2, 2)
    before.batch(1)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    save(tmp_path, 1, {"": (model, optimizer)}, {"hooks": [before.state_dict()]})
    after.load_state_dict(load(tmp_path, {"": (model, optimizer)})["hooks"][0])
    assert [b.rows.extra for b in after.kept] == [{"source": ["student", "teacher"]}] * 2
    assert after.batch(2).metrics == before.batch(2).metrics
