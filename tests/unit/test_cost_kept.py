"""Bytes kept for the backward pass: the estimate against saved_tensors_hooks, on a CPU."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from opd_steps.graph.cost.kept import kept
from opd_steps.graph.cost.shape import shape_of
from opd_steps.models.numerics import computing, recompute_blocks
from opd_steps.process import ranks
from opd_steps.tune.lora import Lora

SIZES = {"hidden_size": 96, "intermediate_size": 200, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 24}
GPT2 = {"n_embd": 96, "n_inner": 200, "n_head": 6, "n_layer": 5, "n_positions": 128}
MOE = {"moe_intermediate_size": 40, "num_experts": 8, "num_experts_per_tok": 3}
MODES = {"float32": ("float32", "float32"), "mixed": ("float32", "bfloat16"), "bfloat16": ("bfloat16", "bfloat16")}
ROWS, LENGTH, RANK = 3, 70, 8


def config(kind: str) -> dict:
    sizes = GPT2 if kind == "gpt2" else SIZES | {"num_hidden_layers": 5, "max_position_embeddings": 128}
    return {"model_type": kind, "vocab_size": 64, **sizes, **(MOE if kind == "qwen3_moe" else {})}


def measured(kind: str, mode: str, recompute: bool, rank: int) -> int:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config(kind)), dtype=getattr(torch, MODES[mode][0])).eval()
    if rank:
        Lora(r=rank).adapt(model.requires_grad_(False), 0)
    return bytes_kept(model, mode, recompute, torch.randint(0, 60, (ROWS, LENGTH)))


def bytes_kept(model, mode: str, recompute: bool, tokens: torch.Tensor, **how) -> int:
    """Bytes of all storages that are saved, and of what goes into blocks that are recomputed; without weights and casts of them."""
    if recompute:
        recompute_blocks(model)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    shapes = {tuple(p.shape) for p in model.parameters()} | {tuple(p.shape)[::-1] for p in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if mode != "mixed" or tuple(tensor.shape) not in shapes:
            found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    def inputs(module, args, kwargs) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    for block in ranks.blocks(model) if recompute else ():
        block.register_forward_pre_hook(inputs, with_kwargs=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), computing(model, getattr(torch, MODES[mode][1])):
        ranks.hidden_states(model, tokens, **how)
    return sum(t.untyped_storage().nbytes() for address, t in found.items() if address not in own)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2", "gemma3_text", "gpt2", "qwen3_moe"])
def test_what_a_forward_pass_keeps(kind, mode):
    found, _ = kept(shape_of(config(kind)), ROWS, LENGTH, mode)
    assert found == pytest.approx(measured(kind, mode, False, 0), rel=0.03)


@pytest.mark.parametrize("mode", MODES)
def test_what_recomputed_blocks_keep(mode):
    found, again = kept(shape_of(config("llama")), ROWS, LENGTH, mode, recompute=True)
    assert found == pytest.approx(measured("llama", mode, True, 0), rel=0.1)
    assert again == pytest.approx(measured("llama", mode, False, 0) / 5, rel=0.1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_what_frozen_layers_with_adapters_keep(kind, mode):
    found, _ = kept(shape_of(config(kind)), ROWS, LENGTH, mode, rank=RANK)
    assert found == pytest.approx(measured(kind, mode, False, RANK), rel=0.1)
