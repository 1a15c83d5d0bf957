"""The real vLLM on the CPU. Each file runs in a worker of its own (--dist loadfile): vLLM changes the process that it lives in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from opd_steps.graph.options import TeacherEngine
from opd_steps.models.folder import load_model, load_tokenizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.seeds import rng
from tests.pipeline.stages import Stages, save_checkpoint

SMALL = {"batch": 64, "kv_cache_mb": 64, "max_model_len": 256}
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32, "initializer_range": 0.2}

FRESH = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
FRESH |= {"head_dim": 32, "max_position_embeddings": 256, "tie_word_embeddings": True, "initializer_range": 0.2}


def engine_options(**changes) -> dict:
    """Checked options of an engine, small."""
    return dataclasses.asdict(TeacherEngine()) | SMALL | changes


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Two untrained models with sharp logits: one whose head is its embedding, one with a head of its own."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("tied", "untied"):
        save_checkpoint(folder / name / "model", seed=3, tie_word_embeddings=name == "tied", **SHAPE)
    return {name: folder / name for name in ("tied", "untied")}


def sums(stages: Stages, **rows: int) -> None:
    """The data node of the stages here: sums of two or three digits; `rows` by split."""
    source = {"name": "arithmetic", "digits": 1, "modulus": 10, "terms": [2, 3], "ood_terms": [4], **rows}
    stages.run("data", "data", source=source, verifier={"name": "exact", "after": "="})


def policy_of(checkpoint: Path, **sampling) -> LMPolicy:
    """The torch model."""
    model = load_model(checkpoint, "float32").requires_grad_(False).eval()
    return LMPolicy(model, load_tokenizer(checkpoint), **sampling)


def prompts(count: int, vocab: int) -> list[list[int]]:
    """Token ids, 2 to 20 of them."""
    return [rng("prompt", i).integers(0, vocab - 4, 2 + 3 * i % 19).tolist() for i in range(count)]


def moved(model: torch.nn.Module, step: int) -> None:
    """Other weights."""
    draw = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=draw)
