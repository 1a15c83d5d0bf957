"""Milestones: a training keeps its model after some steps as parts that other nodes read."""

from __future__ import annotations

import pytest
import torch
import yaml

from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.equal import unequal
from opd_steps.graph.nodes import Graph
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import NODE, Killed, nodes, read_weights, run

KEEP = {"early": 3, "late": 6}


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


def part(folder, name: str) -> dict:
    return read_weights(folder / NODE / "parts" / name)


def test_a_milestone_is_what_a_shorter_run_would_have_made(tmp_path):
    whole = run(tmp_path / "whole", keep=KEEP)
    assert equal(part(tmp_path / "whole", "early"), run(tmp_path / "short", steps=3).weights)
    assert equal(part(tmp_path / "whole", "late"), run(tmp_path / "longer", steps=6).weights)
    plain = run(tmp_path / "plain")
    assert equal(whole.weights, plain.weights) and whole.metrics == plain.metrics
    assert whole.manifest["facts"]["parts"].keys() == KEEP.keys() and "parts" not in plain.manifest["facts"]


@pytest.mark.parametrize("kill_at", [3, 4, 7])
def test_they_outlive_a_kill(tmp_path, kill_at):
    """Checkpoints are at 2, 4, 6: a kill between a milestone and the next checkpoint makes its step again."""
    whole = run(tmp_path / "whole", keep=KEEP)
    with pytest.raises(Killed):
        run(tmp_path / "broken", kill_at, keep=KEEP)
    resumed = run(tmp_path / "broken", keep=KEEP)
    assert resumed.manifest["files"] == whole.manifest["files"]
    assert not list((tmp_path / "broken/.work").glob("*"))


def test_nodes_read_them_by_name(tmp_path):
    """A rollout of a milestone names its weights, and is the one of a node that stopped there."""
    run(tmp_path / "kept", keep=KEEP)
    run(tmp_path / "short", steps=3)
    of = lambda folder, model: Stages(tmp_path / folder).run("said", "rollout", {"policy": model, "data": "data/data"})
    early, late, end, short = (
        of("kept", "opd/toy/seed3:early"),
        of("kept", "opd/toy/seed3:late"),
        of("kept", "opd/toy/seed3"),
        of("short", "opd/toy/seed3"),
    )
    assert early["facts"] == short["facts"] and early["files"] == short["files"]
    assert len({each["facts"]["policy"] for each in (early, late, end)}) == 3


PAPER = """
paper: {title: Toy}
nodes:
  data: {kind: data, source: {name: arithmetic, train: 40, test: 4, ood: 4}}
  small: {kind: model, data: data, config: {hidden_size: 16}}
  base: {kind: pretrain, model: small, data: data, steps: 40, keep: {early: 10, late: 30}}
  student: {kind: opd, student: small, teacher: "base:early", data: data}
evaluate: {models: [base, "base:early"], options: {data: data}}
claims:
  - {id: more, says: more tokens help, left: base.test/accuracy, op: ">", right: "base:early.test/accuracy"}
"""


def graph(tmp_path, *edits: tuple[str, str]) -> Graph:
    text = PAPER
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    yaml.safe_load(text)
    (tmp_path / "toy.yaml").write_text(text)
    return checked(Graph([str(tmp_path / "toy.yaml")]))


def test_the_graph_knows_them(tmp_path):
    found = graph(tmp_path)
    student = found.nodes["toy", "opd", "student"]
    assert student.parts["teacher"] == "early" and student.root_of("teacher").name == "small"
    assert '"teacher":"toy/pretrain/base/seed0:early"' in student.job_config(0)
    assert ("toy", "evaluate", "base__early") in found.nodes


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("late: 30", "late: 40"), "base.keep.late: expected a step before the last, below 40, found 40"),
        (("early: 10", "early: 0"), "base.keep.early: expected at least 1, found 0"),
        (("late: 30", "a-b: 30"), "base.keep.a-b: a name is made of letters"),
        (('base:early", data', 'base:middle", data'), "'base' has no part 'middle'; its parts: early, late"),
        (
            ('teacher: "base:early"', 'teacher: base, keep: {e: 1}, teachers: {x: {model: "self:e"}}'),
            "milestone of this very node",
        ),
        (
            ('teacher: "base:early"', "teacher: base, keep: {b: 1}, learners: {b: {model: small}}"),
            "student.keep.b: a learner of this node has this name",
        ),
    ],
)
def test_mistakes_end_with_one_line(tmp_path, edit, said):
    with pytest.raises(UserError) as error:
        graph(tmp_path, edit)
    assert said in str(error.value)


def test_the_toys_hold_no_milestones():
    assert not list(nodes().rglob("parts"))


def test_a_milestone_has_cost_what_came_before_it(tmp_path):
    """Claims hold it against another training's by its own steps and samples."""
    other = ("evaluate:", "  other: {kind: pretrain, model: small, data: data, steps: 10}\nevaluate:")
    models = ('[base, "base:early"]', '[base, "base:early", other]')
    held = ("left: base.test/accuracy", "left: other.test/accuracy")
    found = graph(tmp_path, other, models, held)
    assert unequal(found, "toy", 0) == []
    found = graph(tmp_path, other, models, held, ("steps: 10}", "steps: 20}"))
    assert [(side["left"], side["right"]) for side in unequal(found, "toy", 0)] == [("20", "10"), ("1280", "640")]
