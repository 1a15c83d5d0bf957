"""The transformer of a flow that makes images, from its config alone: what its weights, and an image on its way, take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from opd_steps.graph.cost.shape import ANY

IMAGE, TEXT, BOTH, ONE = "image", "text", "both", "one"
"""What a layer is given: tokens of the image, of its prompt, of both, or one vector of each image."""
ADAPTED = {"float32": (4, 4), "mixed": (2, 2), "bfloat16": (4, 4), "gathered": (2, 2)}
"""Bytes that an adapter keeps of a token, for each channel of what it is given and for each of its r: a copy in its own dtype, fp32, which
autocast makes one in bf16. Where states are in that dtype there is no copy, and layers that are given the same (`Layer.source`) keep it
once: in fp32, and where several processes gather adapters in bf16."""


@dataclass(frozen=True)
class Layer:
    """name      its last parts
    ins, outs  channels
    reads      IMAGE, TEXT, BOTH or ONE
    source     layers of one block that are given the same numbers have one
    """

    name: str
    ins: int
    outs: int
    reads: str = ONE
    source: str = ""
    bias: bool = True

    @property
    def parameters(self) -> int:
        return self.ins * self.outs + self.bias * self.outs

    def named(self, targets: Iterable[str]) -> bool:
        """Whether an adapter is put around it, as peft finds layers; no targets are all."""
        targets = tuple(targets or ())
        return not targets or any(f".{self.name}".endswith(f".{target}") for target in targets)


@dataclass(frozen=True)
class Kept:
    """Bytes that a block keeps of a token for the backward pass.

    trained   where its weights are
    frozen    where they are not, and gradients pass through them
    gates     more, where the layer that scales its states is trained or adapted (trained: they are in there)
    """

    trained: int
    frozen: int
    gates: int


@dataclass(frozen=True)
class Block:
    """layers   its linear ones; `norms`: weights of its norms
    kept     mode (shape.Style) -> tokens that pass through it, IMAGE, TEXT or BOTH -> what it keeps of each
    once     mode -> bytes that it keeps of an image, however many tokens
    """

    layers: tuple[Layer, ...]
    norms: int
    kept: dict[str, dict[str, Kept]]
    once: dict[str, int]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers) + self.norms

    def bytes(self, tokens: dict[str, int], mode: str, rank: int, targets: Iterable[str], gathered: bool) -> int:
        """Of an image with so many tokens; `rank` of adapters beside frozen weights, 0: all is trained."""
        adapted = [layer for layer in self.layers if rank and layer.named(targets)]
        gates = any(layer.reads == ONE for layer in adapted)
        per = lambda kept: kept.frozen + gates * kept.gates if rank else kept.trained
        found = self.once[mode] + sum(tokens[reads] * per(kept) for reads, kept in self.kept[mode].items())
        of_input, of_rank = ADAPTED["gathered" if gathered and mode == "bfloat16" else mode]
        alike = gathered or mode == "float32"
        given = {(layer.reads, layer.source): layer for layer in adapted}.values() if alike else adapted
        found += sum(tokens[layer.reads] * of_input * layer.ins for layer in given)
        return found + sum(tokens[layer.reads] * of_rank * rank for layer in adapted)


@dataclass(frozen=True)
class Flow:
    """blocks     (how many, a block), in the order in which they are run
    width      channels of a block's input
    outer      linear layers outside the blocks; `others`: all other parameters there
    buffers    numbers that are no parameters: each process holds them whole
    patch, channels, side    of a latent: pixels of a token's side, numbers of a pixel, pixels of its side
    told       tokens of a prompt; `shown`: of one with an image beside it
    whole      tokens of a kind are filled up to a multiple of this
    passes     2: with guidance, the model is asked of each state twice
    ends       mode -> bytes that are kept outside the blocks, where all is trained: of an image's token, of a prompt's
    stream     mode -> bytes of a channel between blocks
    passing    mode -> bytes of a channel at the widest place of a pass without gradient: of an image's token, of a prompt's
    """

    blocks: tuple[tuple[int, Block], ...]
    width: int
    outer: tuple[Layer, ...]
    others: int
    buffers: int
    patch: int
    channels: int
    side: int
    told: int
    ends: dict[str, tuple[int, int]]
    stream: dict[str, int]
    passing: dict[str, tuple[int, int]]
    shown: int = 0
    whole: int = 1
    passes: int = 1

    longest: ClassVar[int] = ANY
    tower: ClassVar[None] = None
    masked: ClassVar[bool] = False

    # ---- weights

    @property
    def layers(self) -> list[Layer]:
        """All linear ones."""
        return [layer for count, block in self.blocks for _ in range(count) for layer in block.layers] + list(self.outer)

    @property
    def linear(self) -> int:
        return sum(layer.ins * layer.outs for layer in self.layers)

    @property
    def inner(self) -> int:
        """Channels of a token at the widest place of a block."""
        return max(layer.outs for _, block in self.blocks for layer in block.layers if layer.reads != ONE)

    @property
    def block(self) -> int:
        """Parameters of the largest."""
        return max(block.parameters for _, block in self.blocks)

    @property
    def outside(self) -> int:
        return sum(layer.parameters for layer in self.outer) + self.others

    @property
    def parameters(self) -> int:
        return sum(count * block.parameters for count, block in self.blocks) + self.outside

    def adapted(self, targets: Iterable[str]) -> list[tuple[int, int]]:
        """(in, out) of all layers that have an adapter."""
        return [(layer.ins, layer.outs) for layer in self.layers if layer.named(targets)]

    # ---- images

    @property
    def numbers(self) -> int:
        """Of a latent."""
        return self.channels * self.side**2

    def tokens(self, told: int) -> dict[str, int]:
        """Of an image whose prompt has so many."""
        image, text = (-(-n // self.whole) * self.whole for n in ((self.side // self.patch) ** 2, told))
        return {IMAGE: image, TEXT: text, BOTH: image + text, ONE: 1}

    def operations(self, told: int) -> float:
        """Of a forward pass for one image: 2 for each weight and token that it is multiplied with, 4 tokens^2 width of each attention."""
        tokens = self.tokens(told)
        products = sum(2 * tokens[layer.reads] * layer.ins * layer.outs for layer in self.layers)
        attentions = [
            layer for layer in self.layers if layer.name.endswith("to_q")
        ]  # to all tokens that pass, or the image's own
        own = lambda layer: tokens[IMAGE] if layer.name.startswith("attn2") else tokens[layer.reads]
        joint = lambda layer: tokens[BOTH] if layer.name.startswith("attn.") else own(layer)
        return products + sum(4 * joint(layer) ** 2 * layer.outs for layer in attentions)

    def kept(
        self,
        images: int,
        told: int,
        mode: str,
        recompute: bool = False,
        rank: int = 0,
        targets: Iterable[str] = (),
        gathered: bool = False,
    ) -> tuple[int, int]:
        """(bytes after a forward pass with gradient, more while a block is computed again). `gathered`: by several processes."""
        tokens = self.tokens(told)
        each = [(count, block, block.bytes(tokens, mode, rank, targets, gathered)) for count, block in self.blocks]
        ends = 0 if rank else sum(tokens[reads] * size for reads, size in zip((IMAGE, TEXT), self.ends[mode], strict=True))
        if not recompute:
            return images * (sum(count * size for count, _, size in each) + ends), 0
        passed = lambda block: sum(tokens[reads] for reads in block.kept[mode]) * self.stream[mode] * self.width
        inputs = sum(count * passed(block) for count, block, _ in each)
        ends = (
            ends or tokens[IMAGE] * self.stream[mode] * self.width
        )  # what goes into the last norm; else the first block keeps less
        return images * (inputs + ends), images * max(size for _, _, size in each)

    def through(self, images: int, told: int, mode: str) -> int:
        """Bytes at the widest place of a pass of which nothing is kept."""
        tokens, (image, text) = self.tokens(told), self.passing[mode]
        return images * self.width * (tokens[IMAGE] * image + tokens[TEXT] * text)

    # ---- its family's options

    def by(self, family: dict[str, Any], linked: bool) -> Flow:
        """As a family draws with it; a fresh model is told words, and patches of an image."""
        side, passes = family["side"] or self.side, 2 if family["guidance"] > 1 else 1
        told = self.told if linked else family["words"] + family["patches"] ** 2
        return replace(self, side=side, passes=passes, told=told, shown=self.shown if linked else told)
