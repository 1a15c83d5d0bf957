"""What stands around Z-Image's transformer: its text encoder, the one that also sees, and the VAE. Nobody trains them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property

import torch
from diffusers import ZImagePipeline
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText

from opd_steps.errors import UserError
from opd_steps.models.families.vl import VL
from opd_steps.models.folder import read_tokenizer
from opd_steps.models.sd3_encoder import DTYPE, SD3Encoder
from opd_steps.models.vl_policy import VLPolicy
from opd_steps.models.word_vectors import Prompt

LAYER = -2  # whose hidden states are a prompt's encoding, as the pipeline has it
LENGTH = 512  # tokens of a prompt, at most; the pipeline cuts longer texts
SAFELY = {"local_files_only": True, "use_safetensors": True}


@cache  # one for a student and its teachers
def z_image_encoder(path: str, eyes: str | None, pixels: int, device: str) -> ZImageEncoder:
    return ZImageEncoder(path, eyes, pixels, device)


class ZImageEncoder(SD3Encoder):
    """`path`: a folder of ZImagePipeline, of which all but the transformer is loaded; its VAE is read as Stable Diffusion 3's.

    eyes     folder of a model of Qwen3-VL's kind that reads a prompt behind its image, as wide as the text encoder; None: images are refused
    pixels   of an image, at most, when it is looked at
    """

    KEPT = 1024  # up to 3 MB each in bfloat16

    def __init__(self, path: str, eyes: str | None, pixels: int, device: str):
        try:
            self.pipe = ZImagePipeline.from_pretrained(path, transformer=None, dtype=DTYPE[device], **SAFELY).to(device)
        except (OSError, ValueError) as error:
            raise UserError(path, f"cannot load text encoder and VAE of Z-Image: {error}") from None
        self.known, self.place, self.pixels = {}, eyes, pixels

    @cached_property  # no image, nothing to look with
    def eyes(self) -> VLPolicy:
        if self.place is None:
            raise UserError("family.eyes", "a context shows an image beside the prompt: expected a model that sees it")
        text, device = self.pipe.text_encoder, self.pipe.text_encoder.device
        try:
            model = AutoModelForImageTextToText.from_pretrained(self.place, dtype=text.dtype, **SAFELY)
        except (OSError, ValueError) as error:
            raise UserError(self.place, f"cannot load what sees images: {error}") from None
        width, own = model.config.text_config.hidden_size, text.config.hidden_size
        if width != own:
            raise UserError(self.place, f"says {width} numbers of each token: expected {own}, as the text encoder does")
        model = model.to(device).eval().requires_grad_(False)
        return VLPolicy(model, read_tokenizer(self.place), family=VL(image_pixels=self.pixels))

    def encode(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """(tokens [B, S, D], fp32, zeros behind each prompt's own, their number [B]). Raises UserError for an image where it has no eyes,
        and for one that is too long to read beside its prompt."""
        each = [self._known(prompt) for prompt in prompts]
        lengths_B = torch.tensor([len(tokens) for tokens in each])
        return pad_sequence([tokens.float() for tokens in each], batch_first=True), lengths_B

    def _known(self, prompt: Prompt) -> Tensor:
        seen = isinstance(prompt, dict) and prompt["image"].numel() > 0
        text = prompt["prompt"] if isinstance(prompt, dict) else prompt
        key = (text, prompt["image"].numpy().tobytes()) if seen else text
        return self.kept(key, self._seen, text, prompt["image"]) if seen else self.kept(key, self._text, text)

    @torch.no_grad()
    def _text(self, text: str) -> Tensor:
        return self.pipe.encode_prompt([text], do_classifier_free_guidance=False, max_sequence_length=LENGTH)[0][0].cpu()

    @torch.no_grad()
    def _seen(self, text: str, image_CHW: Tensor) -> Tensor:
        context = {"prompt": text, "seen": ((image_CHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[None], "rate": 1.0}
        ids = self.eyes.tokens(context)
        if len(ids) > LENGTH:
            raise UserError("family.pixels", f"an image and its prompt are {len(ids)} tokens: expected {LENGTH} at most")
        how, _ = self.eyes.shown([context], len(ids))
        how |= {"input_ids": torch.tensor([ids], device=self.eyes.device), "output_hidden_states": True, "use_cache": False}
        return self.eyes.model.base_model(**how).hidden_states[LAYER][0].cpu()
