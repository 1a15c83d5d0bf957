"""The lean decoder: bit for bit the model's own logits, whatever the architecture; what it does not know goes another way, and it says so."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from opd_steps.rollout import lean, products
from opd_steps.rollout.lean import Lean, Plain, decoder_for
from opd_steps.rollout.local import decode

SHAPE = {"vocab_size": 40, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "initializer_range": 0.2}
PROMPTS = {"even": [[3, 4, 5], [6, 7, 8], [9, 1, 2]], "ragged": [[3], [6, 7, 8, 2], [9, 1]]}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16}
KINDS = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True)),
    "qwen3-untied": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=False)),
    "qwen3-bias": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, attention_bias=True)),
    "qwen3-one-to-one": lambda: Qwen3ForCausalLM(Qwen3Config(**(SHAPE | {"num_key_value_heads": 4}))),
    "qwen3-yarn": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, rope_parameters=YARN)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in SHAPE.items() if k != "head_dim"})),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
}


def make(kind: str):
    torch.manual_seed(0)
    model = KINDS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases too
            if parameter.ndim == 1:
                parameter.normal_(1.0, 0.3)
    return model.eval()


@torch.no_grad()
def walk(decoder: Plain, prompts: list[list[int]], steps: int, drop_at: int) -> list[torch.Tensor]:
    """Logits of every step; every row takes its likeliest token. The middle row is dropped on the way."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * (len(p) + steps) for p in prompts])
    positions = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
    found = []
    for t in range(steps):
        padded = bool((mask[:, :width] == 0).any())
        found.append(decoder(ids, positions, mask[:, : width + t] if padded else None))
        ids, positions = found[-1].argmax(-1)[:, None], positions[:, -1:] + 1
        if t == drop_at:
            keep = torch.tensor([0, 2])
            decoder.select(keep)
            ids, positions, mask = ids[keep], positions[keep], mask[keep]
    return found


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_transformers_own_to_the_last_bit(kind, prompts, monkeypatch):
    monkeypatch.setattr(lean, "ROOM", 4)  # the cache has to grow on the way
    model = make(kind)
    for fused in (1 << 26, 0):
        monkeypatch.setattr(lean, "FUSED", fused)
        ours, theirs = (walk(decoder, PROMPTS[prompts], 20, drop_at=7) for decoder in (Lean(model, 20), Plain(model)))
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)


def test_bfloat16_logits_are_those_of_the_same_hidden_states_with_less_rounding():
    model = make("qwen3").to(torch.bfloat16)
    exact = make("qwen3")
    with torch.no_grad():
        for ours, rounded in zip(exact.parameters(), model.parameters(), strict=True):
            ours.copy_(rounded)
    ours, theirs, truth = (
        walk(decoder, PROMPTS["ragged"], 1 + 1, drop_at=9) for decoder in (Lean(model, 2), Plain(model), Plain(exact))
    )
    assert ours[1].dtype is torch.float32
    assert (ours[1] - truth[1]).abs().mean() <= (theirs[1].float() - truth[1]).abs().mean()


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_laid_out_give_the_same_logits_up_to_rounding(kind, prompts, monkeypatch):
    monkeypatch.setattr(products, "LARGE", 0)
    model = make(kind)
    ours, theirs = (walk(decoder, PROMPTS[prompts], 20, drop_at=7) for decoder in (Lean(model, 20), Plain(model)))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype, near", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_large_weight_is_laid_out_once_for_many_tokens(dtype, near, bias):
    g = torch.Generator().manual_seed(0)
    weight_OI, x_BI = (torch.randn(n, 256, generator=g).to(dtype) for n in (260, 3))
    bias_O = torch.randn(260, generator=g).to(dtype) if bias else None
    few, many = (products.product(weight_OI, bias_O, new) for new in (products.TOKENS - 1, products.TOKENS))
    assert torch.equal(few(x_BI), torch.nn.functional.linear(x_BI, weight_OI, bias_O))
    truth = x_BI.double() @ weight_OI.double().T + (bias_O.double() if bias else 0)
    found = many(x_BI)
    assert found.dtype is dtype and float((found - truth).norm() / truth.norm()) < near
    before = found.clone()
    weight_OI.zero_()  # what was laid out is a copy
    assert torch.equal(many(x_BI), before)


@pytest.mark.parametrize("kind", KINDS)
def test_known_models_take_the_lean_path(kind):
    assert lean.unknown(make(kind)) == ""


def test_what_is_unknown_says_so_and_decodes_all_the_same(capsys):
    torch.manual_seed(0)
    other = Gemma2ForCausalLM(Gemma2Config(**SHAPE))
    assert type(decoder_for(other, 4)) is Plain
    assert "decoding with transformers' cache: the lean path knows" in capsys.readouterr().out
    decoder_for(other, 4)
    assert capsys.readouterr().out == ""  # once
    tokens, _, _ = decode(other, PROMPTS["ragged"], range(3), max_new_tokens=5, ends=[-1], pad_id=0)
    assert [len(row) for row in tokens] == [5, 5, 5]


def test_a_frozen_head_is_asked_in_one_product():
    """Of a slice [B, 1, D] of prompts torch would copy the head B times: 16 GB of Gemma's for 48 prompts."""
    asked = []
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE)).requires_grad_(False)
    model.lm_head.register_forward_pre_hook(lambda _, args: asked.append(args[0]))
    walk(Plain(model), PROMPTS["ragged"], 2, drop_at=9)
    assert [tuple(x.shape) for x in asked] == [(3, 1, 48)] * 2 and all(x.is_contiguous() for x in asked)


def test_what_the_lean_path_cannot_do_is_found():
    model = make("qwen3")
    handle = model.model.layers[1].register_forward_hook(lambda *a: None)
    assert "hooks on its modules" in lean.unknown(model)
    handle.remove()
    model.config.rope_parameters = {**model.config.rope_parameters, "rope_type": "dynamic"}
    assert "rope dynamic" in lean.unknown(model)
    sliding = SHAPE | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
    assert "a sliding window" in lean.unknown(Qwen3ForCausalLM(Qwen3Config(**sliding)))
    eager = Qwen3ForCausalLM._from_config(Qwen3Config(**SHAPE), attn_implementation="eager")
    assert "eager attention" in lean.unknown(eager)
    replaced = make("qwen3")
    replaced.model.layers[0].mlp.up_proj.__class__ = type("Quantised", (torch.nn.Linear,), {})
    assert "no plain nn.Linear" in lean.unknown(replaced)
