"""Steps from their command line on weights and options that lead to nan: one line, status 2, nothing published. Verdicts on nan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.pipeline.checkout import ROOT
from tests.pipeline.stages import Stages, save_checkpoint

SUMS = {"source": {"name": "arithmetic", "train": 60, "test": 8, "ood": 0}, "verifier": {"name": "exact", "after": "="}}
SHORT = {"max_new_tokens": 6}
ENV = {k: v for k, v in os.environ.items() if k != "DISTILLERY_WARM"} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Stages:
    """Nodes: a model, and one whose weights are numbers, but whose logits are not."""
    base = tmp_path_factory.mktemp("nonfinite")
    stages = Stages(base / "results")
    stages.run("data", "data", **SUMS)
    stages.run("m", "model", path=str(save_checkpoint(base / "checkpoint", vocab_size=300)))
    huge = save_checkpoint(base / "huge", vocab_size=300) / "model.safetensors"
    weights = load_file(huge)
    weights["model.norm.weight"].fill_(3e38)
    weights["model.embed_tokens.weight"] *= 1e3
    save_file(weights, huge, {"format": "pt"})
    stages.run("huge", "model", path=str(huge.parent))
    stages.run("rows", "rollout", {"policy": "model/m", "data": "data/data"}, limit=4, sampling=SHORT)
    return stages


def step(stages: Stages, name: str, kind: str, parents: dict, **options) -> tuple[subprocess.CompletedProcess, Path]:
    config, out = stages.job(name, kind, parents, **options)
    command = [sys.executable, "-m", f"opd_steps.steps.{kind}", "--config", json.dumps(config), "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, env=ENV, capture_output=True, text=True, stdin=subprocess.DEVNULL), out.parent


def test_a_diverged_training_ends_with_one_line_and_keeps_its_checkpoint(stages):
    parents, diverging = {"student": "model/m", "data": "data/data"}, {"lr": 1e30, "clip": 0, "warmup": 0.5}
    options = {"steps": 6, "batch": 4, "checkpoint_every": 1, "optim": diverging}
    for _ in range(2):
        run, folder = step(stages, "diverged", "sft", parents, **options)
        assert run.returncode == 2, run.stderr
        assert run.stderr == (
            "distillery: error: p/sft/diverged/seed0: step 2: train/grad_norm is nan; nothing is published, "
            "the checkpoint after step 1 stays\n"
        )
        assert not folder.exists()
        assert [p.name for p in (stages.results / ".work").glob("p.sft.diverged*/checkpoint-*")] == ["checkpoint-00000001"]


READERS = {
    "rollout": ({"policy": "model/huge", "data": "data/data"}, {"limit": 4, "sampling": SHORT}),
    "score": ({"rollouts": "rollout/rows", "teacher": "model/huge"}, {}),
    "evaluate": ({"model": "model/huge", "data": "data/data"}, {"k": 0, "max_new_tokens": 6}),
    "analyze": ({"model": "model/m", "teacher": "model/huge", "data": "data/data"}, {"analysis": "overlap", "limit": 4}),
    "opd": (
        {"student": "model/m", "teacher": "model/huge", "data": "data/data"},
        {"steps": 2, "prompts": 2, "sampling": SHORT, "on_nonfinite": "skip", "max_skips": 2},
    ),
}


@pytest.mark.parametrize("kind", READERS)
def test_logits_that_are_no_numbers_are_published_by_nobody(stages, kind):
    run, folder = step(stages, "reads", kind, *READERS[kind][:1], **READERS[kind][1])
    assert run.returncode == 2, run.stderr
    said = run.stderr.splitlines()[-1]  # behind what lm-eval logs
    assert said.startswith("distillery: error: ") and "Traceback" not in run.stderr
    assert run.stderr.count("\n") == 1 or kind == "evaluate"
    assert "finite" in said or "is nan" in said
    assert ("huge" in said) == (kind != "opd") and (f"p/{kind}/reads/seed0: step 2: " in said) == (kind == "opd")
    assert not folder.exists()
