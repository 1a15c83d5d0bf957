"""Flows of Z-Image's kind: an image's tokens and its prompt's are refined apart, then pass all blocks as one row."""

from __future__ import annotations

from typing import Any

from opd_steps.graph.cost.flow import BOTH, IMAGE, TEXT, Block, Flow, Kept, Layer
from opd_steps.graph.cost.rows import PROMPT, SHOWN

DEFAULTS = {  # of diffusers' ZImageTransformer2DModel
    "in_channels": 16,
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "cap_feat_dim": 2560,
}
PATCH, TIMES, MIDDLE, MOST, WHOLE = 2, 256, 1024, 256, 32  # MOST: channels of what a time becomes for the blocks
SIDE = 128
_KEPT = {"float32": ((88, 16), (40, 12), 16), "mixed": ((92, 8), (40, 6), 16), "bfloat16": ((68, 8), (44, 6), 8)}
"""Bytes that a block keeps of a token: weights trained, frozen, each for a channel of the width and of the MLP; with trained gates.
Measured, and linear in both: tests/unit/test_cost_flow.py."""
_ONCE = {"float32": 16, "mixed": 8, "bfloat16": 8}  # of an image, for each channel
_END = {"float32": (12, 16), "mixed": (10, 14), "bfloat16": (6, 10)}  # of a channel of an image's token, of a prompt's
_STREAM = {"float32": 4, "mixed": 4, "bfloat16": 2}
_PASSING = {"float32": (66, 66), "mixed": (43, 43), "bfloat16": (34, 34)}


def z_image_of(config: dict[str, Any], _: int = 0) -> Flow | str:
    """That of a transformer's config.json; what is not known of it, in words."""
    config = DEFAULTS | {"qk_norm": True, "siglip_feat_dim": None, "all_patch_size": (PATCH,)} | config
    if wrong := [name for name in DEFAULTS if not isinstance(config[name], int) or config[name] < 1]:
        return f"its config says no number for {wrong[0]}"
    if not config["qk_norm"] or config["siglip_feat_dim"] or list(config["all_patch_size"]) != [PATCH]:
        return "how a ZImageTransformer2DModel of its config computes is not known here"
    d, heads, channels, told = (config[name] for name in ("dim", "n_heads", "in_channels", "cap_feat_dim"))
    time, numbers = min(d, MOST), PATCH**2 * channels
    outer = (
        Layer("t_embedder.mlp.0", TIMES, MIDDLE),
        Layer("t_embedder.mlp.2", MIDDLE, time),
        Layer("cap_embedder.1", told, d, TEXT),
        Layer("all_x_embedder.2-1", numbers, d, IMAGE),
        Layer("all_final_layer.2-1.linear", d, numbers, BOTH),
        Layer("all_final_layer.2-1.adaLN_modulation.1", time, d),
    )
    refined, angles = (
        config["n_refiner_layers"],
        2 * 4 * d // heads,
    )  # of positions: two fp32 for each pair, apart and as one row
    blocks = (
        (refined, _block(d, heads, IMAGE)),
        (refined, _block(d, heads, TEXT)),
        (config["n_layers"], _block(d, heads, BOTH)),
    )
    return Flow(
        blocks=blocks,
        width=d,
        outer=outer,
        others=2 * d + told,  # tokens that fill up, the prompt's norm
        buffers=0,
        patch=PATCH,
        channels=channels,
        side=SIDE,
        told=PROMPT,
        shown=PROMPT + SHOWN // 2,  # an image of 512 x 512 pixels is 256
        ends={mode: tuple(size * d + angles for size in sizes) for mode, sizes in _END.items()},
        stream=_STREAM,
        passing=_PASSING,
        whole=WHOLE,
    )


def _block(d: int, heads: int, reads: str) -> Block:
    """The prompt's own blocks are the same at all times."""
    inner, timed = int(d / 3 * 8), reads != TEXT
    layers = [Layer(f"attention.to_{x}", d, d, reads, "attention", bias=False) for x in "qkv"]
    layers += [Layer("attention.to_out.0", d, d, reads, "out", bias=False)]
    layers += [Layer(f"feed_forward.{x}", d, inner, reads, "mlp", bias=False) for x in ("w1", "w3")]
    layers += [Layer("feed_forward.w2", inner, d, reads, "inner", bias=False)]
    layers += [Layer("adaLN_modulation.0", min(d, MOST), 4 * d)] if timed else []
    figures, kept = 12 * heads + 16, {}
    for mode, (trained, frozen, gates) in _KEPT.items():
        each = [width * d + mlp * inner + figures for width, mlp in (trained, frozen)]
        kept[mode] = {reads: Kept(each[0] - (0 if timed else gates * d), each[1], gates * d * timed)}
    return Block(tuple(layers), 4 * d + 2 * (d // heads), kept, {mode: size * d * timed for mode, size in _ONCE.items()})
