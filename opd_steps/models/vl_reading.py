"""How a question beside a picture or a video becomes tokens: what a model that sees does without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from opd_steps.models.sight import Sight
from opd_steps.models.tokenizers import encode, encode_markup

Context = dict
"""{prompt: text, seen: [T, 3, H, W] uint8, rate: frames a second}; T = 1: an image."""


class VLReading:
    """`family`: a VL; `place`: the checkpoint's own folder."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: Any, config: PreTrainedConfig, place: Path):
        self.tokenizer, self.family, self._texts = tokenizer, family, {}
        self.sight = Sight.of(config, place).within(family.image_pixels, family.video_pixels)
        self.pads = config.image_token_id, config.video_token_id
        self.marks = config.vision_start_token_id, config.vision_end_token_id

    def tokens(self, context: Context, pad: int | None = None) -> list[int]:
        """The prompt as the family's template has it; `pad` stands for what is seen, of which the shape alone is looked at."""
        key = context["prompt"], tuple(context["seen"].shape), context["rate"]
        if key not in self._texts:
            before, between, behind = (encode_markup(self.tokenizer, text) for text in self.family.parts)
            said = encode(self.tokenizer, context["prompt"])
            self._texts[key] = [*before, *self.pictured(*key[1:]), *between, *said, *behind]
        found = self._texts[key]
        return found if pad is None else [pad if token in self.pads else token for token in found]

    def pictured(self, shape: tuple[int, ...], rate: float) -> list[int]:
        _, h, w = self.sight.grid(shape)
        (start, end), many = self.marks, h * w // self.sight.merge**2
        if shape[0] == 1:
            return [start, *[self.pads[0]] * many, end]
        stamps = (self.family.stamp.format(t=time) for time in self.sight.times(shape[0], rate))
        return [x for stamp in stamps for x in (*encode(self.tokenizer, stamp), start, *[self.pads[1]] * many, end)]
