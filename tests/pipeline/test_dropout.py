"""A model whose config has dropout: off where log-probs are compared, on in pretraining and SFT, which resume to the same bytes."""

from __future__ import annotations

import json

import pytest

from tests.pipeline.stages import Stages
from tests.pipeline.test_checkpoint_faults import killed_after

pytestmark = pytest.mark.usefixtures("own_signals")

SUMS = {"source": {"name": "arithmetic", "train": 60, "test": 8, "ood": 0}, "verifier": {"name": "exact", "after": "="}}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}  # resid, embd and attn_pdrop are .1
QWEN = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
QWEN |= {"head_dim": 16, "attention_dropout": 0.3}
MODELS = {"gpt2": GPT2, "qwen3": QWEN}
FULL = {"signal": "rkl", "support": "full", "estimator": "exact"}
STEPS = {"steps": 4, "checkpoint_every": 2}


@pytest.fixture
def stages(tmp_path) -> Stages:
    stages = Stages(tmp_path / "results")
    stages.run("data", "data", **SUMS)
    for name, config in MODELS.items():
        stages.run(name, "model", architecture=name, config=config, tokenizer="byte")
    return stages


@pytest.mark.parametrize("name", MODELS)
def test_a_student_that_is_its_teacher_has_no_gradient(stages, name):
    parents = {"student": f"model/{name}", "teacher": f"model/{name}", "data": "data/data"}
    sampling = {"max_new_tokens": 6}
    full = stages.run("full", "opd", parents, prompts=4, sampling=sampling, method=FULL, **STEPS)["metrics"]
    assert full["train/grad_norm:first"] < 1e-6 and abs(full["train/divergence:first"]) < 1e-7
    sampled = stages.run("sampled", "opd", parents, prompts=4, sampling=sampling, **STEPS)["metrics"]
    assert sampled["train/log_ratio:first"] == 0 == sampled["train/grad_norm:first"]
    assert sampled["train/sampler_gap_max:first"] < 1e-4


def test_grpo_compares_the_policy_that_sampled(stages):
    options = {"prompts": 4, "sampling": {"n": 4, "max_new_tokens": 6}, "kl": 0.1}
    found = stages.run("rl", "rl", {"policy": "model/gpt2", "data": "data/data"}, **options, **STEPS)["metrics"]
    assert found["train/sampler_gap_max:first"] < 1e-4 and found["train/ratio:first"] == pytest.approx(1, abs=1e-5)
    assert found["train/clipped:max"] == 0


@pytest.mark.parametrize("kind", ["sft", "pretrain"])
def test_with_dropout_a_killed_run_ends_like_an_unbroken_one(stages, kind):
    parents = {"student" if kind == "sft" else "model": "model/gpt2", "data": "data/data"}
    options = {"batch": 4, **STEPS}
    whole = stages.run("whole", kind, parents, **options)
    folder = killed_after(*stages.job("broken", kind, parents, **options), step=2)
    assert folder.is_dir()
    assert stages.run("broken", kind, parents, **options)["files"] == whole["files"]


def test_dropout_is_on_in_sft(stages):
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    stages.run("still", "model", architecture="gpt2", config=GPT2 | still, tokenizer="byte")
    loss = [
        stages.run(f"of_{name}", "sft", {"student": f"model/{name}", "data": "data/data"}, batch=4, **STEPS)["metrics"][
            "train/loss:first"
        ]
        for name in ("gpt2", "still")
    ]
    assert loss[0] != loss[1]
    saved = [json.loads((stages.results / f"p/sft/of_{n}/seed0/model/config.json").read_text()) for n in ("gpt2", "still")]
    assert [config["attn_pdrop"] for config in saved] == [0.1, 0.0]
