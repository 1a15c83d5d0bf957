"""Tiny models and policies for unit tests."""

from __future__ import annotations

from typing import ClassVar

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.config.merge import merge
from opd_steps.graph.method import Term


class FakeTokenizer:
    """What LMPolicy asks of a tokenizer."""

    def __init__(self, size: int):
        self.size, self.eos_token_id, self.pad_token_id = size, size - 1, size - 2

    added_tokens_decoder: ClassVar[dict] = {}

    def __len__(self) -> int:
        return self.size

    def num_special_tokens_to_add(self) -> int:
        return 0

    def __call__(self, text: str, add_special_tokens: bool = False, split_special_tokens: bool = False) -> dict:
        return {"input_ids": [ord(c) % (self.size - 2) for c in text]}


def qwen(vocab: int = 24, seed: int = 0, tie: bool = True, layers: int = 2) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        tie_word_embeddings=tie,
        initializer_range=0.3,
    )
    return Qwen3ForCausalLM(config).float()


def method(**options) -> dict:
    """Checked options of a one-stream method."""
    return {**merge(Term, options, "test"), "aggregate": "token_mean"}
