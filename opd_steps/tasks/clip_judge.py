"""Judges of images by models of CLIP's kind, which say how well an image fits a text: PickScore, CLIPScore."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from opd_steps.errors import UserError
from opd_steps.models.external import locate
from opd_steps.process import ranks

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images
UNIT = 26.0  # by which Flow-GRPO divides PickScore, so that rewards are about 1
_SAFELY = {"local_files_only": True, "trust_remote_code": False}


class ClipJudge:
    """exp(logit scale) cos(image, text) / 26 of a checkpoint of transformers' CLIPModel; a folder or a hub id."""

    def __init__(self, path: str):
        folder = locate(path)
        try:
            model = AutoModel.from_pretrained(folder, use_safetensors=True, **_SAFELY)
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **_SAFELY)
            self.side = model.config.vision_config.image_size
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(path, f"cannot load a judge of CLIP's kind: {error}") from None
        self.model = model.to(ranks.device()).eval().requires_grad_(False)

    @torch.no_grad()
    def score(self, images_BCHW: Tensor, prompts: Sequence[str]) -> Tensor:
        """Of images in [-1, 1] and their prompts, [B], on the CPU."""
        told = self.tokenizer(list(prompts), padding=True, truncation=True, max_length=77, return_tensors="pt")
        found = self.model(pixel_values=self.pixels(images_BCHW).to(self.model.device), **told.to(self.model.device))
        cosine_B = torch.cosine_similarity(found.image_embeds, found.text_embeds, -1)
        return (self.model.logit_scale.exp() * cosine_B / UNIT).float().cpu()

    def pixels(self, images_BCHW: Tensor) -> Tensor:
        """As CLIP reads them: its size, by bicubic interpolation, in units of its training images."""
        shown = torch.nn.functional.interpolate(
            (images_BCHW.clamp(-1, 1) + 1) / 2, (self.side, self.side), mode="bicubic", antialias=True
        )
        mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
        return (shown.clamp(0, 1) - mean) / std
