"""What of OpenVLA sees, from its config alone: two towers of plain vision transformers, and the projector behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from opd_steps.graph.cost.shape import BYTES, Shape, shape_of

KEPT = {"float32": (8, 32, 40, 16), "mixed": (4, 20, 24, 16), "bfloat16": (4, 16, 20, 8)}
"""Bytes that a token of a tower keeps for the backward pass in a block: for each channel of the MLP, for each of its width, the same with
factors behind attention and MLP, and for the figures of its norms. Measured and linear (tests/unit/test_cost_acting.py)."""
_STREAM = {"float32": 4, "mixed": 4, "bfloat16": 2}  # of a channel between blocks
LLAMA = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}  # 2, of 7B
TOWERS = (  # of DINOv2 with registers, and SigLIP; the last block of each is read by nobody
    {"width": 1024, "depth": 24, "heads": 16, "inner": 4096, "patch": 14, "registers": 4},
    {"width": 1152, "depth": 27, "heads": 16, "inner": 4304, "patch": 14, "registers": 0},
)


@dataclass(frozen=True)
class Eye:
    """A tower, as OpenVLA's config has it; `first`: tokens in front of those of the patches."""

    width: int
    depth: int
    heads: int
    inner: int
    patch: int
    registers: int

    @property
    def first(self) -> int:
        return self.registers and 1 + self.registers

    @property
    def layers(self) -> int:
        return self.depth - 1

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        d, i = self.width, self.inner
        return ((d, 3 * d), (d, d), (d, i), (i, d))

    def parameters(self, patches: int) -> int:
        block = sum(a * b + b for a, b in self.matrices) + (6 if self.registers else 4) * self.width
        return (3 * self.patch**2 + 1 + patches + self.first) * self.width + self.layers * block

    def kept(self, mode: str) -> int:
        """Of a token, in a block."""
        inner, plain, scaled, norms = KEPT[mode]
        return inner * self.inner + (scaled if self.registers else plain) * self.width + 4 * self.heads + norms


@dataclass(frozen=True)
class Eyes:
    """towers; `patches` that each makes of an image; `out`: channels of what the language model is told of each patch. Called as a Tower
    (tower.py) is, a patch being a token."""

    towers: tuple[Eye, ...]
    patches: int
    out: int
    merged: int = 1

    @property
    def width(self) -> int:
        return max(eye.width for eye in self.towers)

    @property
    def inner(self) -> int:
        return max(eye.inner for eye in self.towers)

    @property
    def projector(self) -> tuple[tuple[int, int], ...]:
        seen = sum(eye.width for eye in self.towers)
        return ((seen, 4 * seen), (4 * seen, self.out), (self.out, self.out))

    @property
    def _layers(self) -> list[tuple[int, int]]:
        """(in, out) of all linear ones."""
        return [pair for eye in self.towers for pair in eye.matrices * eye.layers] + list(self.projector)

    @property
    def linear(self) -> int:
        return sum(a * b for a, b in self._layers)

    @property
    def parameters(self) -> int:
        return sum(eye.parameters(self.patches) for eye in self.towers) + sum(a * b + b for a, b in self.projector)

    def adapters(self, rank: int) -> int:
        return rank * sum(a + b for a, b in self._layers)

    def kept(self, patches: int, mode: str, recompute: bool) -> tuple[int, int]:
        """(bytes after the forward pass, more while a block is computed again), of so many patches of images."""
        tokens = [patches * (self.patches + eye.first) // self.patches for eye in self.towers]
        blocks = [count * eye.kept(mode) for count, eye in zip(tokens, self.towers, strict=True)]
        size = BYTES["float32" if mode == "float32" else "bfloat16"]
        (seen, wide), (_, out), _ = self.projector
        ends = patches * size * (seen + 2 * wide + 2 * out + sum(3 * eye.patch**2 for eye in self.towers))
        if recompute:
            streams = zip(tokens, self.towers, strict=True)
            return ends + sum(eye.layers * count * _STREAM[mode] * eye.width for count, eye in streams), max(blocks)
        return ends + sum(eye.layers * block for eye, block in zip(self.towers, blocks, strict=True)), 0

    def seen(self, family: dict[str, Any]) -> int:
        """Tokens of an image."""
        return self.patches


def telling(config: dict[str, Any], vocab: int = 0) -> Shape | str:
    """That of a policy with the fields of OpenVLA's config.json."""
    text, side = config.get("text_config") or {}, (config.get("image_sizes") or [224])[0]
    towers = tuple(Eye(**tower) for tower in config.get("towers") or TOWERS)
    shape = shape_of({"model_type": "llama"} | LLAMA | text, vocab)
    if isinstance(shape, str):
        return shape
    return replace(shape, tower=Eyes(towers, (side // towers[0].patch) ** 2, shape.width))
