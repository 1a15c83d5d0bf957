"""Flows of Stable Diffusion 3's kind: blocks that an image's tokens and its prompt's pass side by side, attending to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opd_steps.graph.cost.flow import IMAGE, TEXT, Block, Flow, Kept, Layer

DEFAULTS = {  # of diffusers' SD3Transformer2DModel
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 18,
    "attention_head_dim": 64,
    "num_attention_heads": 18,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1152,
    "pooled_projection_dim": 2048,
    "out_channels": 16,
    "pos_embed_max_size": 96,
}
TIMES = 256  # numbers that a time becomes
TOLD = 77 + 128  # tokens of CLIP, and of T5 as the family reads prompts


@dataclass(frozen=True)
class _Bytes:
    """Of a channel of a token, (weights trained, frozen): of a block, more with norms of queries and keys in an attention, more with a second
    attention, less of a prompt's in the last block; with trained gates; at the model's end. Measured, and linear in the channels:
    tests/unit/test_cost_flow.py.
    """

    block: tuple[int, int]
    normed: tuple[int, int]
    second: tuple[int, int]
    last: tuple[int, int]
    gates: int
    once: int
    end: int
    stream: int
    passing: tuple[int, int]


_MODES = {
    "float32": _Bytes((84, 40), (16, 8), (24, 16), (56, 24), 16, 72, 12, 4, (60, 15)),
    "mixed": _Bytes((42, 20), (20, 12), (12, 8), (28, 12), 8, 36, 6, 2, (32, 14)),
    "bfloat16": _Bytes((42, 20), (16, 12), (12, 8), (28, 12), 8, 36, 6, 2, (30, 7)),
}


def sd3_of(config: dict[str, Any], _: int = 0) -> Flow | str:
    """That of a transformer's config.json; what is not known of it, in words."""
    config = DEFAULTS | {"qk_norm": None, "dual_attention_layers": ()} | config
    if wrong := [name for name in DEFAULTS if not isinstance(config[name], int) or config[name] < 1]:
        return f"its config says no number for {wrong[0]}"
    if config["qk_norm"] not in (None, "rms_norm"):
        return f"how an SD3Transformer2DModel with norms {config['qk_norm']} computes is not known here"
    heads, head, count = config["num_attention_heads"], config["attention_head_dim"], config["num_layers"]
    normed, dual = bool(config["qk_norm"]), set(config["dual_attention_layers"])
    make = lambda i: _block(heads, head, normed, i in dual, last=i == count - 1)
    d, patch, channels = heads * head, config["patch_size"], config["in_channels"]
    outer = (
        Layer("timestep_embedder.linear_1", TIMES, d),
        Layer("timestep_embedder.linear_2", d, d),
        Layer("text_embedder.linear_1", config["pooled_projection_dim"], d),
        Layer("text_embedder.linear_2", d, d),
        Layer("context_embedder", config["joint_attention_dim"], config["caption_projection_dim"], TEXT),
        Layer("norm_out.linear", d, 2 * d),
        Layer("proj_out", d, patch**2 * config["out_channels"], IMAGE),
    )
    return Flow(
        blocks=tuple((1, make(i)) for i in range(count)),
        width=d,
        outer=outer,
        others=channels * patch**2 * d + d,  # the patches' convolution, which has no adapter
        buffers=config["pos_embed_max_size"] ** 2 * d,
        patch=patch,
        channels=channels,
        side=config["sample_size"],
        told=TOLD,
        shown=TOLD,
        ends={mode: (b.end * d, b.stream * config["joint_attention_dim"]) for mode, b in _MODES.items()},
        stream={mode: b.stream for mode, b in _MODES.items()},
        passing={mode: b.passing for mode, b in _MODES.items()},
    )


def _block(heads: int, head: int, normed: bool, dual: bool, last: bool) -> Block:
    d = heads * head
    layers = [Layer("norm1.linear", d, (9 if dual else 6) * d), Layer("norm1_context.linear", d, (2 if last else 6) * d)]
    layers += [Layer(f"attn.to_{x}", d, d, IMAGE, "attn") for x in "qkv"] + [Layer("attn.to_out.0", d, d, IMAGE, "out")]
    layers += [Layer(f"attn.add_{x}_proj", d, d, TEXT, "attn") for x in "qkv"]
    layers += [Layer("ff.net.0.proj", d, 4 * d, IMAGE, "ff"), Layer("ff.net.2", 4 * d, d, IMAGE, "inner")]
    if not last:
        layers += [Layer("attn.to_add_out", d, d, TEXT, "out")]
        layers += [Layer("ff_context.net.0.proj", d, 4 * d, TEXT, "ff"), Layer("ff_context.net.2", 4 * d, d, TEXT, "inner")]
    if dual:
        layers += [Layer(f"attn2.to_{x}", d, d, IMAGE, "attn2") for x in "qkv"] + [Layer("attn2.to_out.0", d, d, IMAGE, "out2")]
    kept = {mode: _kept(b, heads, d, normed, dual, last) for mode, b in _MODES.items()}
    return Block(tuple(layers), normed * head * (6 if dual else 4), kept, {mode: b.once * d for mode, b in _MODES.items()})


def _kept(b: _Bytes, heads: int, d: int, normed: bool, dual: bool, last: bool) -> dict[str, Kept]:
    figures = 4 * heads * (1 + 2 * normed)  # fp32, of an attention's softmax and norms

    def of(attentions: int, less: tuple[int, int]) -> Kept:
        each = [
            d * (b.block[k] + attentions * normed * b.normed[k] + (attentions - 1) * b.second[k] - less[k])
            + attentions * figures
            for k in (0, 1)
        ]
        return Kept(*each, 0 if any(less) else d * b.gates)

    return {IMAGE: of(1 + dual, (0, 0)), TEXT: of(1, b.last if last else (0, 0))}
