"""What stands around Stable Diffusion 3's transformer: its text encoders, and the VAE that makes images of latents. Nobody trains them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from opd_steps.errors import UserError

DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}


@cache  # one for a student and its teachers
def sd3_encoder(path: str, device: str) -> SD3Encoder:
    return SD3Encoder(path, device)


class SD3Encoder:
    """`path`: a folder of StableDiffusion3Pipeline, of which all but the transformer is loaded. `length`: tokens that T5 reads."""

    KEPT = 4096  # prompts whose encodings stay in memory, about 1 MB each in bfloat16 with T5's

    def __init__(self, path: str, device: str, length: int = 128):
        how = {"dtype": DTYPE[device], "local_files_only": True, "use_safetensors": True}
        try:
            self.pipe = StableDiffusion3Pipeline.from_pretrained(path, transformer=None, **how).to(device)
        except (OSError, ValueError) as error:
            raise UserError(path, f"cannot load text encoders and VAE of Stable Diffusion 3: {error}") from None
        self.length, self.known = length, {}

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens [B, S, D] of CLIP's and T5's, pooled [B, P] of both CLIPs), fp32. Raises UserError for a prompt with an image."""
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise UserError("teachers", "Stable Diffusion 3 reads text alone; a context shows it an image")
        found = [self.kept(prompt, self._text, prompt) for prompt in prompts]
        return torch.stack([tokens for tokens, _ in found]).float(), torch.stack([pooled for _, pooled in found]).float()

    def _text(self, prompt: str) -> tuple[Tensor, Tensor]:
        how = {"do_classifier_free_guidance": False, "max_sequence_length": self.length}
        tokens_1SD, _, pooled_1P, _ = self.pipe.encode_prompt([prompt], None, None, **how)
        return tokens_1SD[0].cpu(), pooled_1P[0].cpu()

    def kept(self, key: Hashable, read: Callable, *prompt: Any) -> Any:
        """What was read of a prompt, each alone: its bits hang on no other, and a run that goes on finds the same."""
        if key not in self.known:
            if len(self.known) >= self.KEPT:
                self.known.clear()
            self.known[key] = read(*prompt)
        return self.known[key]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, H, W] as images in [-1, 1], one at a time, on the CPU."""
        vae = self.pipe.vae
        scaled = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        return torch.cat([vae.decode(one[None], return_dict=False)[0].float().cpu() for one in scaled])

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """Latents of images [B, 3, H, W] in [-1, 1], the means of what the VAE says, on the CPU."""
        vae = self.pipe.vae
        means = torch.cat([vae.encode(one[None].to(vae.device, vae.dtype)).latent_dist.mean.float().cpu() for one in images])
        return (means - vae.config.shift_factor) * vae.config.scaling_factor
