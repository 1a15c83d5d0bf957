"""The part of a model that sees, from its config alone: what its weights, and a patch of what is seen, take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEPT = {"float32": (44, 8, 12), "mixed": (22, 4, 6), "bfloat16": (22, 4, 6)}
"""Bytes that a patch keeps for the backward pass in a block, for each channel of its width and of the MLP, and in a merger for each
channel of the width: measured and linear (tests/unit/test_cost_tower.py)."""
_STREAM = {"float32": 4, "mixed": 2, "bfloat16": 2}  # of a channel between blocks
SEEN = 1024  # tokens of an image of 1,024 x 1,024 pixels, to Qwen3-VL
_DEFAULTS = {
    "in_channels": 3,
    "patch_size": 16,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "num_position_embeddings": 2304,
}


@dataclass(frozen=True)
class Tower:
    """width, inner   channels of a block's input, and within its MLP
    patch, frames  numbers of a patch; pictures of a video that are one
    side           pixels of the side of what becomes one token
    merged         patches that become one token
    out            channels of that token
    places         rows of the table of positions
    told           mergers: one at the end, and one for each block whose states the language model is told on the way (deepstack)
    """

    width: int
    inner: int
    layers: int
    patch: int
    frames: int
    side: int
    merged: int
    out: int
    places: int
    told: int

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the linear layers of a block."""
        d, i = self.width, self.inner
        return ((d, 3 * d), (d, d), (d, i), (i, d))

    @property
    def mergers(self) -> tuple[tuple[int, int], ...]:
        """And of a merger."""
        wide = self.width * self.merged
        return ((wide, wide), (wide, self.out))

    @property
    def linear(self) -> int:
        """Numbers that a patch is multiplied with: of a merger, its share of the token's."""
        return self.layers * _products(self.matrices) + self.told * _products(self.mergers) // self.merged

    @property
    def parameters(self) -> int:
        norms = 2 * self.width + (self.told - 1) * 2 * self.width * self.merged  # those of the way come behind the merging
        block = _products(self.matrices) + sum(b for _, b in self.matrices) + 4 * self.width
        merger = _products(self.mergers) + sum(b for _, b in self.mergers)
        outside = self.patch * self.width + self.width + self.places * self.width
        return outside + self.layers * block + self.told * merger + norms

    def adapters(self, rank: int) -> int:
        """Weights of adapters on all its linear layers."""
        return rank * sum(a + b for a, b in (*self.matrices * self.layers, *self.mergers * self.told))

    def kept(self, patches: int, mode: str, recompute: bool) -> tuple[int, int]:
        """(bytes after the forward pass, more while a block is computed again)."""
        width, inner, merger = KEPT[mode]
        block = patches * (width * self.width + inner * self.inner)
        stream = _STREAM[mode] * self.width
        ends = patches * (self.told * merger * self.width + stream + _STREAM[mode] * self.patch)  # the patches themselves, too
        if recompute:
            return self.layers * patches * stream + ends, block
        return self.layers * block + ends, 0

    def seen(self, family: dict[str, Any]) -> int:
        """Tokens of what is shown beside the text of a row, as the options of a family bound them; as many as are assumed where they
        do not."""
        return self.tokens(family["image_pixels"], family["video_pixels"]) or SEEN

    def tokens(self, image: int, video: int) -> int:
        """Of an image, or a video's pictures together, of so many pixels at most; 0: nobody bounds them, and they are left out."""
        area = self.side**2
        return max(image // area, video // area // self.frames)


def _products(matrices: tuple[tuple[int, int], ...]) -> int:
    return sum(a * b for a, b in matrices)


def tower_of(config: dict[str, Any]) -> Tower | str:
    """That which a vision_config of Qwen3-VL's kind makes; what is not known of it, in words."""
    config = _DEFAULTS | config
    names = ("hidden_size", "intermediate_size", "depth", "out_hidden_size", *_DEFAULTS)
    if wrong := [name for name in names if not isinstance(config.get(name), int) or config[name] < 1]:
        return f"its vision_config says no number for {wrong[0]}"
    width, inner, depth, out, colours, patch, frames, merge, places = (config[name] for name in names)
    deep = config.get("deepstack_visual_indexes", [8, 16, 24])
    return Tower(width, inner, depth, colours * frames * patch**2, frames, patch * merge, merge**2, out, places, 1 + len(deep))
