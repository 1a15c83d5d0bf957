"""Flows from noise to images: the transformer of Stable Diffusion 3 and its scheduler, both of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from opd_steps.errors import UserError
from opd_steps.models.external import followed
from opd_steps.models.flow_family import FlowFamily, Kind
from opd_steps.models.sd3_encoder import sd3_encoder
from opd_steps.models.word_vectors import WordVectors
from opd_steps.seeds import derive

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job

LEFT_OUT = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3")
OTHERS = (*LEFT_OUT, "image_encoder", "feature_extractor")
TIMES = 1000  # that the transformer tells apart


@dataclass(frozen=True)
class SD3(FlowFamily):
    """`path`, a pipeline of Stable Diffusion 3 with its text encoders and VAE, or a fresh model of `config` (fields of diffusers'
    SD3Transformer2DModel): then a prompt is read by word vectors that nobody trains, and latents are the pixels. The transformer is trained.
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "config")
    PARALLEL: ClassVar[bool] = True
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    LACKS: ClassVar[tuple[str, ...]] = ("attention", "packed", "micro_tokens")

    shift: Annotated[float, "above 0"] = 3.0  # of the scheduler's times towards noise
    noise: Annotated[float, "above 0"] = 0.7  # level of the SDE's noise at temperature 1 (models/flow_steps.py)
    guidance: Annotated[float, "at least 1"] = 1.0  # 1: none
    side: Annotated[int, "at least 0"] = 0  # of a latent; 0: the model's own. 64 is 512 pixels of Stable Diffusion 3
    words: Annotated[int, "at least 1"] = 6  # of a prompt, at most
    patches: Annotated[int, "at least 0"] = 0  # an image beside a prompt is seen as patches x patches tokens; 0: not at all

    @property
    def kind(self) -> Kind:
        return Kind("Stable Diffusion 3", "StableDiffusion3Pipeline", SD3Transformer2DModel, OTHERS)

    def make(self, job: Job) -> dict:
        if path := job.options["path"]:
            return self.link(job, path)
        torch.manual_seed(derive(job.seed, "model"))
        try:
            model = SD3Transformer2DModel(**job.options["config"])
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError("config", f"no model of diffusers' SD3Transformer2DModel: {error}") from None
        self.write(model, job.stage)
        return {"kind": "fresh", "parameters": sum(p.numel() for p in model.parameters())}

    def encoder(self, config: Mapping, link: dict | None, device: str) -> Any:
        if link is None:
            return WordVectors(self.words, self.patches, config.joint_attention_dim, config.pooled_projection_dim)
        return sd3_encoder(str(followed(link)), device)

    def velocity(self, model: nn.Module, x_NCHW: Tensor, sigma_N: Tensor, told: tuple[Tensor, Tensor]) -> Tensor:
        tokens_NSD, pooled_NP = (part.to(x_NCHW) for part in told)
        return model(x_NCHW, tokens_NSD, pooled_NP, sigma_N * TIMES, return_dict=False)[0]
