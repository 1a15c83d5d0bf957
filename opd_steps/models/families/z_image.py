"""Flows from noise to images in few steps: Z-Image's transformer and its scheduler, both of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch import Tensor, nn

from opd_steps.errors import UserError
from opd_steps.models.external import commit, followed, locate
from opd_steps.models.flow_family import FlowFamily, Kind
from opd_steps.models.z_image_encoder import z_image_encoder

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job

OTHERS = ("vae", "text_encoder", "tokenizer")


@dataclass(frozen=True)
class ZImage(FlowFamily):
    """`path`, a pipeline of Z-Image with its text encoder and VAE. The transformer is trained.

    `eyes`, a folder or a hub id, is a model of Qwen3-VL's kind: where a context shows an image beside its prompt, what that says of both
    stands in the text encoder's place, which the transformer understands without training (D-OPSD, arXiv 2605.05204).
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision")
    PARALLEL: ClassVar[bool] = True
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    LACKS: ClassVar[tuple[str, ...]] = ("attention", "packed", "micro_tokens")

    shift: Annotated[float, "above 0"] = 3.0  # of the scheduler's times towards noise
    noise: Annotated[float, "above 0"] = 0.7  # level of the SDE's noise at temperature 1 (models/flow_steps.py)
    guidance: Annotated[float, "at least 1"] = 1.0  # 1: none, as few steps have it; the pipeline's own number is one less
    side: Annotated[int, "at least 2"] = 128  # of a latent: 128 is 1,024 pixels
    eyes: str = ""
    pixels: Annotated[int, "at least 1024"] = 262144  # of an image that is looked at, at most: 256 tokens

    @property
    def kind(self) -> Kind:
        return Kind("Z-Image", "ZImagePipeline", ZImageTransformer2DModel, OTHERS)

    def make(self, job: Job) -> dict:
        if not (path := job.options["path"]):
            raise UserError("path", "expected a pipeline of Z-Image: a folder, or a hub id")
        eyes = {"path": self.eyes, "revision": commit(locate(self.eyes))} if self.eyes else None
        return self.link(job, path, eyes=eyes)

    def encoder(self, config: Mapping, link: dict, device: str) -> Any:
        pipe, eyes = (of and str(followed(of)) for of in (link, link["eyes"]))
        return z_image_encoder(pipe, eyes, self.pixels, device)

    def times(self, scheduler: Any, steps: int) -> Tensor:
        if scheduler.config.use_dynamic_shifting:
            raise UserError("path", "its scheduler shifts times by an image's size: expected one with a shift of its own")
        scheduler.set_timesteps(sigmas=get_default_z_image_sigmas(steps))
        return scheduler.sigmas

    def velocity(self, model: nn.Module, x_NCHW: Tensor, sigma_N: Tensor, told: tuple[Tensor, Tensor]) -> Tensor:
        """The pipeline counts time from noise to image, and its model says where the image lies: the other way round."""
        tokens_NSD, length_N = told
        texts = [row_SD[:length] for row_SD, length in zip(tokens_NSD.to(x_NCHW), length_N.tolist(), strict=True)]
        return -torch.stack(model(list(x_NCHW[:, :, None]), 1 - sigma_N, texts, return_dict=False)[0])[:, :, 0]
