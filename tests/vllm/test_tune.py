"""Adapters and vLLM: it holds the merged weights, when it starts and after each step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opd_steps.models import folder
from opd_steps.rollout.vllm_engine import VllmEngine
from opd_steps.store.artifacts import read_manifest
from opd_steps.tune.lora import Lora
from tests.pipeline.stages import Stages
from tests.vllm.conftest import FRESH, engine_options, policy_of, sums
from tests.vllm.test_opd import EXACT, curve, finish

LORA = {"name": "lora", "r": 4}
PARENTS = {"student": "sft/student", "teacher": "sft/teacher", "data": "data/data"}


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_new_weights_are_the_merged_ones(checkpoints, kind):
    policy = policy_of(checkpoints[kind])
    engine = VllmEngine(folder.where(checkpoints[kind]), engine_options(), "float32", policy.ends, learns=True)
    Lora(r=4).adapt(policy.model, seed=1)
    assert engine.gap(policy.model) < 1e-3  # B is 0
    for step in (1, 2):
        draw = torch.Generator().manual_seed(step)
        for p in (p for p in policy.model.parameters() if p.requires_grad):
            p.data += 0.1 * torch.randn(p.shape, generator=draw)
        assert engine.gap(policy.model) > 0.05
        engine.sync(policy.model, step)
        assert engine.gap(policy.model) < 1e-3
    engine.close()


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Stages:
    """Student and teacher are adapters themselves."""
    found = Stages(tmp_path_factory.mktemp("tune") / "results")
    sums(found, train=300, test=20, ood=5)
    for name, seed in (("student", 0), ("teacher", 1)):
        found.run(name, "model", {"data": "data/data"}, config=FRESH | {"initializer_range": 0.2 + 0.1 * seed})
        rows = {"student": f"model/{name}", "data": "data/data"}
        found.run(name, "sft", rows, tune=LORA, steps=5, optim={"lr": 0.02}, column="solution")
    return found


SMALL = {"parents": PARENTS, "tune": LORA, "steps": 6, "optim": {"lr": 0.02}}


def test_samples_of_vllm_are_the_trainers(stages):
    folder = finish(stages, "sampled", engine={"name": "vllm"}, **SMALL)
    assert curve(folder, "sampler_gap_max").max() < 1e-4
    assert "adapter/adapter_model.safetensors" in read_manifest(folder)["files"]
    assert not list((stages.results / ".work").glob("*"))  # the merged copy went with the job


@pytest.mark.parametrize("where", ["vllm", "server"])
def test_a_teacher_elsewhere_teaches_the_same(stages, where):
    here = finish(stages, "here", method=EXACT, **SMALL)
    there = finish(stages, f"there_{where}", method=EXACT, teacher_engine={"name": where}, **SMALL)
    assert np.abs(curve(here, "loss") - curve(there, "loss")).max() < 1e-3
    assert np.abs(curve(here, "loss")).max() > 1e-2
    assert not list((stages.results / ".work").glob("*"))
