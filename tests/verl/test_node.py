"""opd and rl nodes that verl trains, as their steps run them: whole verl, with Ray, on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opd_steps.models.folder import load_model
from tests.pipeline.stages import Stages
from tests.verl import ENVIRONMENT
from tests.verl.conftest import ROOT
from tests.vllm.conftest import FRESH, sums

PARENTS = {"student": "model/student", "teacher": "model/teacher", "data": "data/data"}
TRAINER = {"name": "verl", "gpus_per_node": 2}
TRAINER["set"] = ["trainer.device=cpu", "actor_rollout_ref.rollout.free_cache_engine=false", "ray_kwargs.ray_init.num_gpus=4"]
TRAINER["set"] += ["ray_kwargs.ray_init.num_cpus=16", "ray_kwargs.ray_init.include_dashboard=false"]
ENGINE = {"name": "vllm", "tensor_parallel": 2}  # one server for both ranks
STEPS = 3
SMALL = {"steps": STEPS, "prompts": 4, "sampling": {"n": 2, "max_new_tokens": 6}, "checkpoint_every": 2, "optim": {"lr": 3e-3}}
SMALL |= {"trainer": TRAINER, "engine": ENGINE}
TOPK = {"signal": "rkl", "support": {"name": "teacher_topk", "k": 4, "norm": "tail"}, "estimator": "exact"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory, verl) -> Stages:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        found = Stages(tmp_path_factory.mktemp("verl") / "results")
        sums(found, train=200, test=20, ood=5)
        for name, spread in (("student", 0.2), ("teacher", 0.3)):
            found.run(name, "model", {"data": "data/data"}, config=FRESH | {"initializer_range": spread})
        yield found


def curves(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_an_opd_node(stages):
    manifest = stages.run("opd", "opd", PARENTS, method=TOPK, teacher_engine=ENGINE, **SMALL)
    folder = stages.results / "p/opd/opd/seed0"
    rows = curves(folder)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(row["train/sampler_gap_max"] < 1e-4 and row["train/divergence"] > 0 for row in rows)
    assert manifest["facts"]["trainer"]["name"] == "verl" and not manifest["facts"]["trainer"]["byte_reproducible"]
    assert {"model/model.safetensors", "metrics.jsonl", "verl.yaml"} <= manifest["files"].keys()
    trained, start = load_model(folder), load_model(stages.results / "p/model/student/seed0")
    moved = [(a - b).abs().max() for a, b in zip(trained.parameters(), start.parameters(), strict=True)]
    assert all(0 < gap < 3 * STEPS * 3e-3 for gap in moved)
    assert manifest["metrics"]["teacher/sequences"] == 8 * STEPS


def test_an_rl_node(stages):
    stages.run("rl", "rl", {"policy": "model/student", "data": "data/data"}, **SMALL)
    rows = curves(stages.results / "p/rl/rl/seed0")
    assert len(rows) == STEPS and all(0 <= row["train/reward"] <= 1 for row in rows)
    assert all(abs(row["train/ratio"] - 1) < 1e-4 for row in rows)  # rows of the weights that are trained
