"""Papers whose trainings are all by LoRA, as `--config tune=lora` has them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file

from opd_steps.config.load import load_root
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph
from opd_steps.store.artifacts import read_manifest
from tests.pipeline.inprocess import cut, run_node
from tests.pipeline.test_resume import KILLS, link_to_tests, tree

ROOT = Path(__file__).parents[2]
PAPERS = ["quickstart", "tip", "vopd", "vision_opd", "dp_opd", "ccopd"]
TRAININGS = ("pretrain", "rl", "sft", "opd")


def test_every_node_of_several_papers_runs(tmp_path, monkeypatch):
    """Private records and averages of the student among them; trainings hold adapters alone, of whatever they stand on."""
    monkeypatch.chdir(ROOT)
    config = OmegaConf.to_container(OmegaConf.load("config.yaml"))
    graph = cut(checked(Graph.of(load_root(config | {"papers": PAPERS, "tune": "lora"}))))
    trained = 0
    for node in wanted(graph):
        files = run_node(node, tmp_path, 0)["files"]
        if node.kind in TRAININGS:
            trained += 1
            assert "base.json" in files and not [name for name in files if name.startswith("model/")], node.key
    assert trained > 30


def test_from_the_command_line(copy):
    """Snakemake runs the trainings and what stands on them; models to start from stay."""
    before = {p: p.read_bytes() for p in (copy.folder / "results/smoke/model").rglob("manifest.json")}
    copy.snakemake("all", "--config", "papers=[smoke]", "tune=lora")
    of = lambda kind: [
        read_manifest(p.parent)["files"] for p in (copy.folder / f"results/smoke/{kind}").glob("*/seed0/manifest.json")
    ]
    assert all("adapter/adapter_model.safetensors" in files for kind in TRAININGS for files in of(kind))
    assert all("model/model.safetensors" in files for kind in ("model", "merge", "project") for files in of(kind))
    assert before == {p: p.read_bytes() for p in before}
    assert copy.planned("--config", "papers=[smoke]", "tune=lora") == set()


@pytest.mark.parametrize(("kind", "name"), [("sft", "student_sft"), ("opd", "opd_jsd")])
def test_killed_at_random_moments(copy, kind, name):
    """By SIGKILL, at moments of all sorts: the bytes of an unbroken run."""
    folder, env = copy.folder / f"results/smoke/{kind}/{name}/seed0", link_to_tests(copy)
    command = [
        sys.executable,
        "-m",
        "tests.pipeline.killer",
        "--paper",
        "smoke",
        "--kind",
        kind,
        "--node",
        name,
        "--tune",
        "lora",
    ]
    made = []
    for kills in (0, KILLS):
        shutil.rmtree(folder)
        run = subprocess.run([*command, "--kills", str(kills)], cwd=copy.folder, env=env, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
        made.append(tree(folder))
        done = json.loads(run.stdout)
        assert done["kills"] >= kills and (not kills or done["resumed"] >= 1)
    unbroken, resumed = made
    assert resumed.keys() == unbroken.keys()
    assert [n for n in unbroken if resumed[n] != unbroken[n]] == []
    held = load_file(folder / "adapter/adapter_model.safetensors")
    assert any(value.abs().max() > 0 for name, value in held.items() if "lora_B" in name)
