"""The shape of a language model, from its config alone: what its weights and a token of it take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from opd_steps.graph.cost.tower import Tower, tower_of

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Style:
    """How an architecture makes its blocks.

    norms    of a block, beside those of queries and keys (`qk_norm`); `affine`: weights that each has for a channel
    gated    two matrices lead into the MLP
    biases   which projections have one: "", "qkv" or "all"
    kept     bytes that a block keeps of a token for the backward pass, as transformers computes it with sdpa: by mode, for each channel
             of its width, of the MLP, of the queries and of the keys (of the values: the same as keys). Measured, and linear in all four:
             tests/unit/test_cost_kept.py
    """

    kept: dict[str, tuple[int, int, int, int]]
    norms: int = 2
    affine: int = 1
    qk_norm: bool = False
    gated: bool = True
    biases: str = ""


# modes: float32 alone; mixed, bf16 products of fp32 weights by autocast; bfloat16 alone
_LLAMA = {"float32": (24, 16, 8, 8), "mixed": (26, 8, 4, 4), "bfloat16": (16, 8, 4, 4)}
_QWEN3 = {"float32": (24, 16, 16, 16), "mixed": (26, 8, 10, 10), "bfloat16": (16, 8, 10, 10)}
_GEMMA = {"float32": (40, 16, 16, 16), "mixed": (42, 8, 12, 12), "bfloat16": (36, 8, 12, 12)}
_GPT2 = {"float32": (24, 20, 8, 0), "mixed": (16, 10, 4, 0), "bfloat16": (12, 10, 4, 0)}
STYLES = {
    "llama": Style(_LLAMA),
    "qwen2": Style(_LLAMA, biases="qkv"),
    "qwen3": Style(_QWEN3, qk_norm=True),
    "qwen3_moe": Style(_QWEN3, qk_norm=True),
    "qwen3_vl_text": Style(_QWEN3, qk_norm=True),
    "gemma3_text": Style(_GEMMA, norms=4, qk_norm=True),
    "gpt2": Style(_GPT2, affine=2, gated=False, biases="all"),
}
_HEAD = {
    "qwen3": 128,
    "qwen3_moe": 128,
    "qwen3_vl_text": 128,
    "gemma3_text": 256,
}  # of configs that say no head_dim; of others: width / heads
_TIED = ("gemma3_text", "gpt2")  # of configs that do not say
ANY = 1 << 40  # tokens of a row, where the config sets no bound


@dataclass(frozen=True)
class Shape:
    """width, inner    channels of a block's input, and within its MLP (one expert's)
    heads, kv, head    query heads, key-value heads, and the size of each
    experts, active    MLPs of a block, and how many of them a token goes through
    positions          a table of them that is learned; 0: angles
    longest            tokens that a row may have
    tower              what sees, of a model that does
    masked             whether it reads both ways, and keeps nothing of what it has read
    """

    model_type: str
    width: int
    inner: int
    layers: int
    heads: int
    kv: int
    head: int
    vocab: int
    tied: bool
    longest: int
    positions: int = 0
    experts: int = 1
    active: int = 1
    tower: Tower | None = None
    masked: bool = False

    @property
    def style(self) -> Style:
        return STYLES[self.model_type]

    @property
    def matrices(self) -> tuple[tuple[str, int, int], ...]:
        """(last part of its name, in, out) of each linear layer of a block; of one expert."""
        d, q, kv, i = self.width, self.heads * self.head, self.kv * self.head, self.inner
        if self.model_type == "gpt2":
            return (("c_attn", d, 3 * d), ("c_proj", d, d), ("c_fc", d, i), ("c_proj", i, d))
        attention = (("q_proj", d, q), ("k_proj", d, kv), ("v_proj", d, kv), ("o_proj", q, d))
        return (*attention, ("gate_proj", d, i), ("up_proj", d, i), ("down_proj", i, d))

    def adapted(self, targets: list[str] | None) -> list[tuple[int, int]]:
        """(in, out) of the layers of all blocks that have an adapter; no targets are all."""
        return [(a, b) for name, a, b in self.matrices if not targets or name in targets] * self.layers

    def _linear(self, experts: int) -> int:
        attention, mlp = self.matrices[: -3 if self.style.gated else -2], self.matrices[-3 if self.style.gated else -2 :]
        router = self.width * self.experts if self.experts > 1 else 0
        return sum(a * b for _, a, b in attention) + experts * sum(a * b for _, a, b in mlp) + router

    @property
    def linear(self) -> int:
        """Parameters of all blocks' matrices."""
        return self.layers * self._linear(self.experts)

    @property
    def used(self) -> int:
        """Those of them that a token is multiplied with, and the head's."""
        return self.layers * self._linear(self.active) + self.vocab * self.width

    @property
    def block(self) -> int:
        style, outs = self.style, [b for _, _, b in self.matrices]
        biases = {"": 0, "qkv": sum(outs[:3]), "all": sum(outs)}[style.biases]
        norms = style.norms * style.affine * self.width + (2 * self.head if style.qk_norm else 0)
        return self._linear(self.experts) + biases + norms

    @property
    def table(self) -> int:
        """Parameters of the embedding; of the head as well."""
        return self.vocab * self.width

    @property
    def outside(self) -> int:
        """Parameters outside the blocks; those of the tower among them, which processes hold as they hold these (ranks.shard)."""
        own = self.table * (1 if self.tied else 2) + self.positions * self.width + self.style.affine * self.width
        return own + (self.tower.parameters if self.tower else 0)

    @property
    def parameters(self) -> int:
        return self.layers * self.block + self.outside

    @property
    def cached(self) -> int:
        """Numbers that a token leaves in the cache of keys and values."""
        return 0 if self.masked else 2 * self.layers * self.kv * self.head


def seeing(config: dict[str, Any], vocab: int = 0) -> Shape | str:
    """That of a model that sees, of the fields of a whole config.json of Qwen3-VL's kind."""
    text = {"model_type": "qwen3_vl_text"} | (config.get("text_config") or {})
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    shape, tower = shape_of(text | {"tie_word_embeddings": tied}, vocab), tower_of(config.get("vision_config") or {})
    return next((found for found in (shape, tower) if isinstance(found, str)), None) or replace(shape, tower=tower)


def denoising(config: dict[str, Any], vocab: int = 0) -> Shape | str:
    """That of a masked model with the fields of LLaDA's config.json: a Llama's blocks, which read both ways."""
    if config.get("model_type") != "llada":
        return f"how {config.get('model_type') or 'a masked model of its config'} makes its blocks is not known here"
    names = {"d_model": "hidden_size", "mlp_hidden_size": "intermediate_size", "n_layers": "num_hidden_layers"}
    names |= {
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "max_sequence_length": "max_position_embeddings",
    }
    fields = {ours: config[theirs] for theirs, ours in names.items() if theirs in config}
    fields |= {
        "model_type": "llama",
        "vocab_size": config.get("vocab_size"),
        "tie_word_embeddings": config.get("weight_tying", False),
    }
    found = shape_of(fields, vocab)
    return found if isinstance(found, str) else replace(found, masked=True)


def shape_of(config: dict[str, Any], vocab: int = 0) -> Shape | str:
    """The shape that the fields of a config.json make; what is not known of them, in words. `vocab`: where they do not say."""
    kind = config.get("model_type", "")
    if kind not in STYLES:
        return f"how {kind or 'a config without model_type'} makes its blocks is not known here"
    if kind == "gpt2":
        width = config.get("n_embd", 768)
        names = {"hidden_size": width, "intermediate_size": config.get("n_inner") or 4 * width}
        names |= {"num_hidden_layers": config.get("n_layer", 12), "num_attention_heads": config.get("n_head", 12)}
        config = config | names | {"max_position_embeddings": config.get("n_positions", 1024)}
    moe = kind == "qwen3_moe"
    fields = {
        "hidden_size": config.get("hidden_size"),
        "moe_intermediate_size" if moe else "intermediate_size": config.get(
            "moe_intermediate_size" if moe else "intermediate_size"
        ),
        "num_hidden_layers": config.get("num_hidden_layers"),
        "num_attention_heads": config.get("num_attention_heads"),
        "num_key_value_heads": config.get("num_key_value_heads") or config.get("num_attention_heads"),
        "head_dim": config.get("head_dim") or _HEAD.get(kind, 1),
        "vocab_size": config.get("vocab_size", vocab),
        "max_position_embeddings": config.get("max_position_embeddings") or ANY,
        "num_experts": config.get("num_experts", 1) if moe else 1,
        "num_experts_per_tok": config.get("num_experts_per_tok", 1) if moe else 1,
    }
    if wrong := [name for name, value in fields.items() if not isinstance(value, int) or value < 1]:
        return f"its config says no number for {wrong[0]}"
    width, inner, layers, heads, kv, head, size, longest, experts, active = fields.values()
    return Shape(
        model_type=kind,
        width=width,
        inner=inner,
        layers=layers,
        heads=heads,
        kv=kv,
        head=head if config.get("head_dim") or kind in _HEAD else width // heads,
        vocab=size,
        tied=config.get("tie_word_embeddings", kind in _TIED),
        longest=longest,
        positions=longest if kind == "gpt2" else 0,
        experts=experts,
        active=active,
    )
