"""Weights in four bits under an adapter: the nearest of 16 values a weight, the products of what they mean, and who reads it so."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from torch import nn

from opd_steps.errors import UserError
from opd_steps.models.bases import Base, Tuning, weights_digest
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.models.folder import load_model
from opd_steps.models.nf4 import VALUES, Nf4, dense, quantised, rounded
from opd_steps.nouns.adapted import layers, merged, switched_off
from opd_steps.store.artifacts import read_manifest
from opd_steps.tune.qlora import Qlora
from tests.unit.opd_toys import Killed, nodes, run
from tests.unit.test_tune import logits, model_of, trained

QLORA = {"name": "qlora", "r": 4, "block": 16}


@pytest.mark.parametrize(("shape", "block"), [((6, 8), 16), ((5, 7), 4), ((3, 3), 64)])
def test_each_weight_is_the_nearest_value_of_its_block(shape, block):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    weight.flatten()[:4] = 0
    packed, scale_N = quantised(weight, block)
    flat = weight.flatten()
    assert (
        len(scale_N) == -(-len(flat) // block) and packed.numel() == len(scale_N) * block // 2 and packed.dtype == torch.uint8
    )
    expected = torch.empty_like(flat)
    for n, part in enumerate(flat.split(block)):
        assert scale_N[n] == part.abs().max()
        for i, w in enumerate(part):
            values = scale_N[n] * VALUES
            expected[n * block + i] = values[(values - w).abs().argmin()]
    assert torch.equal(dense(packed, scale_N, weight.shape), expected.view(shape))
    assert torch.equal(rounded(rounded(weight, block, torch.float32), block, torch.float32), expected.view(shape))
    assert (expected - flat).abs().mean() < 0.1 * flat.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_gradients_are_those_of_the_rounded_weight(dtype):
    torch.manual_seed(0)
    layer = nn.Linear(12, 10).to(dtype).requires_grad_(False)
    held, x = Nf4(layer, 8), torch.randn(3, 12, dtype=dtype, requires_grad=True)
    plain = held.whole()
    assert torch.equal(plain.weight, rounded(layer.weight, 8, dtype)) and plain.weight.dtype == dtype
    y, expected = held(x), plain(x)
    assert torch.equal(y, expected)
    (found,) = torch.autograd.grad(y.square().sum(), x)
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(found, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        y = held(x)
        assert y.dtype == torch.bfloat16
    assert torch.autograd.grad(y.float().sum(), x)[0].dtype == dtype


def adapted(dtype: torch.dtype = torch.float32, **options):
    model = model_of(dtype=dtype)
    Qlora(**{"r": 4, "block": 16} | options).adapt(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    for p in trained(model).values():
        p.data += 0.05 * torch.randn(p.shape, generator=generator)
    return model


def test_it_is_lora_on_the_rounded_model():
    model, start = adapted(), model_of()
    before = logits(start)
    for name, layer in layers(model).items():
        weight = start.get_submodule(name).weight
        weight.data = rounded(weight, 16, torch.float32)
        assert layer.base_layer.packed.numel() * 2 == weight.numel()
    assert all("lora_" in name for name in trained(model)) and not any(
        "proj.weight" in name for name, _ in model.named_parameters()
    )
    with switched_off(model):
        torch.testing.assert_close(logits(model), logits(start), rtol=0, atol=1e-6)
    assert (logits(start) - before).abs().max() > 1e-3
    found = logits(model)
    with merged(model):
        torch.testing.assert_close(logits(model), found, rtol=0, atol=1e-5)
    assert torch.equal(logits(model), found)


def test_four_bits_are_held_and_no_more():
    model = adapted(block=64)
    held = sum(b.numel() * b.element_size() for layer in layers(model).values() for b in layer.base_layer.buffers())
    weights = sum(layer.base_layer.shape.numel() for layer in layers(model).values())
    assert held / weights == pytest.approx(0.5 + 4 / 64, rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_published_is_read_as_the_model_that_was_trained(tmp_path, dtype):
    results = tmp_path / "results"
    results.mkdir()
    (results / "p").symlink_to(nodes() / "p")
    start = results / "p/model/student/seed0"
    base = Base("p/model/student/seed0", "", weights_digest(read_manifest(start)))
    from opd_steps.models.numerics import Numerics

    policy = CausalLM().policy(start, train=True, tuning=Tuning(Qlora(r=4, block=16), 1, base), numerics=Numerics(dtype, dtype))
    for p in trained(policy.model).values():
        p.data += 0.1
    saved = results / "q/opd/toy/seed0"
    saved.mkdir(parents=True)
    CausalLM().save(policy, saved)
    with safe_open(saved / "adapter/adapter_model.safetensors", "pt") as file:
        assert file.metadata()["nf4"] == f"16 {dtype}"
    loaded = load_model(saved, dtype)
    assert not layers(loaded)
    with merged(policy.model):
        for name, p in policy.model.named_parameters():
            assert torch.equal(loaded.get_parameter(name), p), name


def test_a_training_goes_on_to_the_same_bytes(tmp_path):
    whole = run(tmp_path / "whole", tune=QLORA)
    with pytest.raises(Killed):
        run(tmp_path / "broken", 5, tune=QLORA)
    resumed = run(tmp_path / "broken", tune=QLORA)
    assert resumed.manifest["files"] == whole.manifest["files"] and resumed.metrics == whole.metrics
    assert any(value.abs().max() > 0 for name, value in whole.weights.items() if "lora_B" in name)


def test_layers_that_are_no_linear_ones_are_refused():
    with pytest.raises(UserError, match=r"c_attn is a Conv1D, and nn.Linear alone is held in four bits: lora"):
        Qlora(targets=["c_attn"]).adapt(model_of("gpt2"), 0)
