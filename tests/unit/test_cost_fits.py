"""Nodes that do not fit the card that they name, the presets of all papers, and what `plan` says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from opd_steps.errors import UserError
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.cost.memory import GB, fit
from opd_steps.graph.cost.rows import Length
from opd_steps.graph.cost.table import table
from opd_steps.graph.nodes import Graph
from opd_steps.store.files import write_json
from tests.unit.test_papers import CASES, ROOT, graph

LARGE = {"kind": "model", "path": "Qwen/Qwen3-8B"}
SMALL = {"kind": "model", "path": "Qwen/Qwen3-0.6B"}
CARD = {"gpu": 1, "gpu_mem_gb": 80}


def built(tmp_path: Path, **nodes) -> Graph:
    data = {"data": {"kind": "data"}, "large": LARGE, "small": SMALL}
    OmegaConf.save({"paper": {"title": "t"}, "nodes": data | nodes}, tmp_path / "toy.yaml")
    return checked(Graph([str(tmp_path / "toy.yaml")]))


def trained(**more) -> dict:
    return {
        "kind": "pretrain",
        "model": "large",
        "data": "data",
        "micro_batch": 1,
        "dtype": "bfloat16",
        "recompute": True,
    } | more


def test_a_node_that_exceeds_its_card_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError) as refused:
        built(tmp_path, x=trained(resources=CARD))
    said = str(refused.value)
    assert (
        "toy.yaml: nodes.x.resources" in said and "x would need about" in said and "moments 65.5" in said and "\n" not in said
    )


@pytest.mark.parametrize(
    "more",
    [
        {"resources": {"gpu": 4, "gpu_mem_gb": 80}},
        {"resources": {"gpu": 1, "gpu_mem_gb": 192}},
        {"resources": CARD, "tune": {"name": "lora", "r": 16}},
        {"resources": CARD, "weights": "bfloat16"},
        {"model": "small", "resources": {"gpu": 1, "gpu_mem_gb": 24}},
    ],
)
def test_more_cards_larger_ones_or_less_to_hold_fit(tmp_path, more):
    built(tmp_path, x=trained(**more))


def test_a_model_that_nobody_knows_is_not_refused(tmp_path):
    found = built(tmp_path, large={"kind": "model", "path": "some/model"}, x=trained(resources=CARD))
    assert fit(found.find("toy", "x")) == "some/model is neither on this machine nor in shapes.yaml"
    assert "no estimate: some/model" in table(tmp_path, wanted(found))


def test_an_engine_takes_its_share_of_the_card(tmp_path):
    step = {
        "kind": "opd",
        "student": "small",
        "teacher": "small",
        "data": "data",
        "micro_batch": 1,
        "recompute": True,
        "dtype": "bfloat16",
    }
    alone = fit(built(tmp_path, x=step | {"resources": CARD}).find("toy", "x"))
    beside = fit(built(tmp_path, x=step | {"engine": {"name": "vllm", "memory": 0.5}, "resources": CARD}).find("toy", "x"))
    assert beside.parts["engine engine"] == 40 * GB and "cache" not in beside.parts
    assert alone.total < beside.total
    with pytest.raises(UserError, match="engine engine 72"):
        built(tmp_path, x=step | {"engine": {"name": "vllm", "memory": 0.9}, "resources": CARD})


def test_a_share_that_the_weights_alone_exceed_is_refused(tmp_path):
    drawn = {"kind": "rollout", "policy": "large", "data": "data", "dtype": "bfloat16", "resources": CARD}
    with pytest.raises(
        UserError, match=r"nodes\.x\.engine\.memory: 16\.4 GB of weights on each card, of which vLLM may take 16: a larger"
    ):
        built(tmp_path, x=drawn | {"engine": {"name": "vllm", "memory": 0.2}})
    built(tmp_path, x=drawn | {"engine": {"name": "vllm", "memory": 0.3}})


def test_samples_of_an_engine_are_estimated_as_what_is_held(tmp_path):
    drawn = {"kind": "rollout", "policy": "small", "data": "data", "engine": {"name": "vllm", "memory": 0.5}, "resources": CARD}
    found = fit(built(tmp_path, x=drawn).find("toy", "x"))
    assert found.parts["engine engine"] == 40 * GB and found.phase == "sampling"


def test_more_processes_hold_less_each(tmp_path):
    four, eight = (fit(built(tmp_path, x=trained(resources={"gpu": n})).find("toy", "x")).parts["moments"] for n in (4, 8))
    assert four == 2 * eight
    short = built(tmp_path, x=trained(resources={"gpu": 4}, optim={"eight_bit": True})).find("toy", "x")
    assert fit(short).parts["moments"] == pytest.approx(four * (1 + 4 / 256) / 4)


@pytest.mark.parametrize("scale", sorted({scale for _, scale in CASES}))
def test_every_preset_fits(scale, monkeypatch):
    """And all of them are estimated, but for models that a command makes on this machine, and those that act or draft."""
    monkeypatch.chdir(ROOT)
    found, unknown = 0, set()
    for node in graph(papers=[paper for paper, other in CASES if other == scale], scale=scale).nodes.values():
        needed, asked = fit(node), node.options["resources"]
        if isinstance(needed, str):
            unknown.add(needed)
        elif needed is not None:
            found += 1
            assert not asked["gpu"] or needed.total <= asked["gpu_mem_gb"] * GB, node.key
    assert found > len({paper for paper, other in CASES if other == scale}) * 8
    assert all(
        re.match(r"models/(smollm2|gemma3) |how a masked model of its config |the size of a (vla model|drafter) ", why)
        for why in unknown
    ), unknown


def test_rows_are_cut_to_what_a_model_takes():
    assert Length(256, 1024, 2000).within(5000) == Length(256, 1024, 2000)
    assert Length(256, 1024, 2000).within(1000) == Length(1, 999, 1000)


def test_the_plan_says_what_each_needs_and_what_it_assumes(tmp_path):
    found = built(tmp_path, x=trained(resources={"gpu": 4}), y=trained(resources={"gpu": 4}), small_one=trained(model="small"))
    said = table(tmp_path, wanted(found)).splitlines()
    assert "prompts of 256 tokens" in said[1] and "H100s at 15% of their peak" in said[2]
    (both,) = [line for line in said if line.startswith("toy/pretrain/x, y")]
    assert "4 x 80 GB, 4 processes" in both and "about " in both and "GB while" in both
    assert any(line.startswith("toy/pretrain/small_one") and "host" in line and "time unknown" in line for line in said)


def test_a_time_from_before_is_that_of_the_same_configs(tmp_path):
    """Those of another scale have the same names."""
    found = wanted(built(tmp_path, x=trained(model="small")))
    (node,) = [n for n in found if n.name == "x"]
    seconds = {0: 60, 1: 120, 2: 300}
    for seed, wall_s in seconds.items():
        for made in (node, *node.parents.values()):
            (tmp_path / made.path(seed)).mkdir(parents=True, exist_ok=True)
            write_json(tmp_path / made.path(seed) / "manifest.json", {"config": json.loads(made.job_config(made.seed(seed)))})
        write_json(tmp_path / f"{node.path(seed)}.timing.json", {"wall_s": wall_s})
    assert "2 min before" in table(tmp_path, found)
    write_json(tmp_path / node.path(0) / "manifest.json", {"config": {"options": {"steps": 1}}})
    assert "3.5 min before" in table(tmp_path, found)
    (tmp_path / node.path(1) / "manifest.json").unlink()
    assert "5 min before" in table(tmp_path, found)
    write_json(tmp_path / node.parents["model"].path(2) / "manifest.json", {"config": {}})
    assert "before" not in table(tmp_path, found)
