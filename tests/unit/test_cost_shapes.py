"""Shapes that are told from a config: parameters as transformers counts them, and where configs are looked for."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from opd_steps.graph.cost.known import of_path, published
from opd_steps.graph.cost.shape import Shape, denoising, shape_of
from tests.unit.own_code.modeling_llada import LLaDAConfig, LLaDAModelLM

TOTALS = {  # as their pages on the hub say
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "google/gemma-3-270m": 268_098_176,
}
DISTINCT = {  # those that see: test_cost_tower; flows: test_cost_flow; robots: test_cost_acting
    json.dumps({k: v for k, v in config.items() if k != "max_position_embeddings"}): n
    for n, config in published().items()
    if config["model_type"] not in ("qwen3_vl", "llada", "sd3", "z_image", "openvla")
}


@pytest.mark.parametrize("name", DISTINCT.values())
def test_parameters_are_those_of_transformers_model(name):
    config, found = published()[name], of_path(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    assert sum(p.numel() for p in model.parameters()) == found.parameters
    linear = [p.numel() for n, p in model.named_parameters() if p.ndim > 1 and (".layers." in n or ".h." in n)]
    assert sum(linear) == found.linear
    cached = 2 * found.layers * found.kv * found.head
    assert found.cached == cached and found.longest == model.config.max_position_embeddings


def test_totals_are_the_published_ones():
    assert {name: of_path(name).parameters for name in TOTALS} == TOTALS


def test_a_masked_models_parameters_are_those_of_its_form():
    """tests/unit/own_code has LLaDA's layers; 8.02 B is what its page says."""
    config = published()["GSAI-ML/LLaDA-8B-Instruct"]
    with torch.device("meta"):
        model = LLaDAModelLM(LLaDAConfig(**config))
    found = of_path("GSAI-ML/LLaDA-8B-Instruct", family="masked_lm")
    assert sum(p.numel() for p in model.parameters()) == found.parameters and round(found.parameters / 1e7) == 802
    assert found.cached == 0
    assert "modernbert" in denoising({"model_type": "modernbert"}) and "its config" in denoising({"hidden_size": 8})


def test_a_config_on_this_machine_goes_before_the_table(tmp_path, monkeypatch):
    small = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(small | {"vocab_size": 32}))
    assert of_path(str(tmp_path)) == shape_of(small, 32)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    snapshot = tmp_path / "hub/models--Qwen--Qwen3-8B/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(small | {"vocab_size": 33}))
    assert of_path("Qwen/Qwen3-8B").vocab == 33
    assert of_path("Qwen/Qwen3-8B", "other").vocab == 151_936


def test_what_is_not_known_is_said():
    assert of_path("someone/unheard-of") == "someone/unheard-of is neither on this machine nor in shapes.yaml"
    assert "mamba" in shape_of({"model_type": "mamba"})
    assert shape_of({"model_type": "llama", "hidden_size": 8}) == "its config says no number for intermediate_size"
    assert "num_key_value_heads" in shape_of(published()["Qwen/Qwen3-8B"] | {"num_key_value_heads": "two"})
    assert isinstance(shape_of(published()["Qwen/Qwen3-8B"]), Shape)
