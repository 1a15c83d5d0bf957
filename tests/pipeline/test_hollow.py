"""Several processes read a model without any of them holding it whole, and compute with it as one process does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.models import hollow
from opd_steps.models.folder import read_model, save_model
from opd_steps.models.hollow import hollow_model
from opd_steps.models.tokenizers import char_tokenizer
from opd_steps.process.launch import launch
from tests.unit.hollow_toys import NUMERICS, gradient
from tests.unit.tiny import qwen

LARGE = {"vocab_size": 4000, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 10, "head_dim": 64}
LARGE |= {"num_attention_heads": 8, "num_key_value_heads": 4}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hollow")
    save_model(qwen(24, layers=3), char_tokenizer("abcdefghijklmnopqrst"), folder / "node" / "model")
    Qwen3ForCausalLM(Qwen3Config(**LARGE, tie_word_embeddings=False)).save_pretrained(folder / "large", max_shard_size="50MB")
    assert launch(2, "tests.unit.hollow_toys", [str(folder)]) == 0
    return folder


def told(folder: Path) -> list[dict]:
    return [json.loads((folder / f"rank{k}.json").read_text()) for k in range(2)]


def test_no_process_ever_holds_the_whole_model(two):
    size = sum(file.stat().st_size for file in (two / "large").glob("*.safetensors"))
    assert size > 150e6 and len(list((two / "large").glob("*.safetensors"))) > 2
    for rank in told(two):
        assert rank["held"] < 0.51 * size
        assert rank["held"] <= rank["grown"] < 0.7 * size


@pytest.mark.parametrize("name", NUMERICS)
def test_gradients_and_samples_are_those_of_one_process(two, name):
    first, second = (rank["gradients"][name] for rank in told(two))
    assert first == second and first["dtype"] == ["torch.float32"]
    one = gradient(two / "node", name)
    flat = lambda found: torch.tensor([v for key, part in found.items() if key not in ("dtype", "logp") for v in part])
    if name.startswith("bf16"):  # what runs between the products is in bf16, too, where weights are gathered in it
        assert torch.cosine_similarity(flat(first), flat(one), dim=0) > 0.99
    else:
        assert (flat(first) - flat(one)).norm() < 1e-5 * flat(one).norm()
        assert first["logp"] == pytest.approx(one["logp"], abs=1e-5)


def test_buffers_are_those_of_a_whole_model(two):
    found, whole = hollow_model(str(two / "node" / "model")), read_model(str(two / "node" / "model"))
    assert all(p.is_meta for p in found.parameters())
    assert dict(found.named_buffers()).keys() == dict(whole.named_buffers()).keys()
    assert all(torch.equal(buffer, dict(whole.named_buffers())[name]) for name, buffer in found.named_buffers())
    assert found.get_output_embeddings().weight is found.get_input_embeddings().weight
    assert found.generation_config.eos_token_id == whole.generation_config.eos_token_id


def test_files_that_name_weights_otherwise_are_read_whole(two, monkeypatch, capsys):
    files = hollow._files(str(two / "node" / "model"))
    monkeypatch.setattr(hollow, "_files", lambda path: {f"old.{name}": file for name, file in files.items()})
    assert hollow_model(str(two / "node" / "model")) is None
    assert "each process reads the whole model" in capsys.readouterr().out
