"""A text encoder for tiny flows, without weights: each word is a vector drawn once for all, and so is the reading of an image's patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.seeds import rng

Prompt = str | dict
"""A text, or {prompt: a text, image: [C, H, W]} with the image that is shown beside it; one of size 0 is none."""


@dataclass(frozen=True)
class WordVectors:
    """words     tokens that a prompt is padded to, with zeros
    patches   an image beside it is patches x patches tokens, zeros where none is shown. 0: it sees no images
    width     of a token; `pooled`: of the sum of all words
    """

    words: int
    patches: int
    width: int
    pooled: int

    def encode(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """(tokens [B, words + patches^2, width], pooled [B, pooled]). Raises UserError for a prompt that it cannot read."""
        read = [self._one(prompt) if isinstance(prompt, dict) else self._text(prompt) for prompt in prompts]
        return torch.stack([tokens for tokens, _ in read]), torch.stack([pooled for _, pooled in read])

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, H, W] as images: they are the pixels."""
        return latents

    def latents(self, images: Tensor) -> Tensor:
        return images

    def _text(self, text: str) -> tuple[Tensor, Tensor]:
        return _words(text, self.words, self.patches**2, self.width, self.pooled)

    def _one(self, prompt: dict) -> tuple[Tensor, Tensor]:
        tokens, pooled = self._text(prompt["prompt"])
        if not prompt["image"].numel():
            return tokens, pooled
        if not self.patches:
            raise UserError(
                "family.patches", "this model is shown an image beside its prompt, and sees none: expected 1 or more"
            )
        image = prompt["image"]
        size = image.shape[-1] // self.patches
        patches_PD = image.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4).reshape(self.patches**2, -1)
        return torch.cat([tokens[: self.words], patches_PD @ _drawn("patch", patches_PD.shape[1], self.width)]), pooled


@cache
def _words(text: str, words: int, patches: int, width: int, pooled: int) -> tuple[Tensor, Tensor]:
    said = text.split()
    if len(said) > words:
        raise UserError("family.words", f"'{text}' has {len(said)} words, the model reads {words}")
    rows = [_drawn(f"word {word}", 1, width)[0] for word in said] + [torch.zeros(width)] * (words - len(said) + patches)
    sums = sum((_drawn(f"pooled {word}", 1, pooled)[0] for word in said), torch.zeros(pooled))
    return torch.stack(rows), sums / max(len(said), 1) ** 0.5


@cache
def _drawn(what: str, rows: int, width: int) -> Tensor:
    """Of unit length in the mean, a function of its name alone."""
    return torch.tensor(rng("word vectors", what, rows, width).standard_normal((rows, width)), dtype=torch.float32) / rows**0.5
