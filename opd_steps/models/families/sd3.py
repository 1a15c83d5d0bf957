"""Flows from noise to images: the transformer of Stable Diffusion 3 and its scheduler, both of diffusers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from opd_steps.errors import NotFinite, UserError
from opd_steps.models.bases import base_of
from opd_steps.models.external import locate
from opd_steps.models.families import Family
from opd_steps.models.flow_policy import FlowPolicy
from opd_steps.models.folder import LINK, MODEL, with_adapters
from opd_steps.models.numerics import FP32, Numerics, cast, dtype_of
from opd_steps.models.ready import publish_adapter
from opd_steps.models.sd3_encoder import SD3Encoder
from opd_steps.models.word_vectors import WordVectors
from opd_steps.process import ranks
from opd_steps.process.finite import not_finite
from opd_steps.seeds import derive
from opd_steps.store.files import write_json

if TYPE_CHECKING:
    from opd_steps.models.bases import Tuning
    from opd_steps.store.artifacts import Job

TRANSFORMER, SCHEDULER = "transformer", "scheduler"
LEFT_OUT = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3")
INDEX = {
    "_class_name": "StableDiffusion3Pipeline",
    SCHEDULER: ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    TRANSFORMER: ["diffusers", "SD3Transformer2DModel"],
    **{name: [None, None] for name in (*LEFT_OUT, "image_encoder", "feature_extractor")},
}


@dataclass(frozen=True)
class SD3(Family):
    """`path`, a pipeline of Stable Diffusion 3 with its text encoders and VAE, or a fresh model of `config` (fields of diffusers'
    SD3Transformer2DModel): then a prompt is read by word vectors that nobody trains, and latents are the pixels. The transformer is trained.

    The folder is one that StableDiffusion3Pipeline.from_pretrained reads, when it is given the parts that are left out (or None).
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "config")
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    LACKS: ClassVar[tuple[str, ...]] = ("attention", "packed", "micro_tokens")

    shift: Annotated[float, "above 0"] = 3.0  # of the scheduler's times towards noise
    noise: Annotated[float, "above 0"] = 0.7  # level of the SDE's noise at temperature 1 (models/flow_steps.py)
    guidance: Annotated[float, "at least 1"] = 1.0  # 1: none
    side: Annotated[int, "at least 0"] = 0  # of a latent; 0: the model's own. 64 is 512 pixels of Stable Diffusion 3
    words: Annotated[int, "at least 1"] = 6  # of a prompt, at most
    patches: Annotated[int, "at least 0"] = 0  # an image beside a prompt is seen as patches x patches tokens; 0: not at all

    def make(self, job: Job) -> dict:
        if path := job.options["path"]:
            return self._link(job, path)
        torch.manual_seed(derive(job.seed, "model"))
        try:
            model = SD3Transformer2DModel(**job.options["config"])
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError("config", f"no model of diffusers' SD3Transformer2DModel: {error}") from None
        self._write(model, job.stage)
        return {"kind": "fresh", "parameters": sum(p.numel() for p in model.parameters())}

    def _link(self, job: Job, path: str) -> dict:
        """A link to a pipeline that exists; of a folder each file counts, of a hub id the commit."""
        folder = locate(path, job.options["revision"])
        for part in (TRANSFORMER, SCHEDULER, "text_encoder", "vae"):
            if not (folder / part).is_dir():
                raise UserError(path, f"no pipeline of Stable Diffusion 3: it has no {part}/")
        link = {"path": path, "revision": folder.name if folder.parent.name == "snapshots" else None}
        write_json(job.stage / LINK, link)
        return {"kind": "external", "source": path, "revision": link["revision"]}

    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
        tuning: Tuning | None = None,
    ) -> FlowPolicy:
        folder = root = Path(folder)
        while below := base_of(root):
            root = below
        place, source = root / MODEL, None
        if (root / LINK).is_file():
            link = json.loads((root / LINK).read_text())
            source = locate(link["path"], link["revision"], cached=True)
            place = place if place.is_dir() else source
        if not (place / TRANSFORMER).is_dir():
            raise UserError(str(folder), f"holds no flow: expected {MODEL}/{TRANSFORMER}")
        how, device, dtype = {"local_files_only": True}, ranks.device(), dtype_of(numerics.weights)
        model = SD3Transformer2DModel.from_pretrained(place / TRANSFORMER, dtype=dtype, use_safetensors=True, **how)
        model = with_adapters(model.to(device), folder).requires_grad_(train).eval()
        if name := not_finite(model.named_parameters()):
            raise NotFinite(str(place), f"the weight {name} is not finite")
        if tuning:
            tuning.plug.adapt(model, tuning.seed)
        if numerics.recompute and train:
            model.enable_gradient_checkpointing()
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(place / SCHEDULER, **how)
        around = scheduler, self._encoder(model.config, source, device), self, sampling, batch, source and link
        return FlowPolicy(model, *around, numerics, tuning and tuning.base)

    def _encoder(self, config, source: Path | None, device: str):
        if source is None:
            return WordVectors(self.words, self.patches, config.joint_attention_dim, config.pooled_projection_dim)
        return SD3Encoder(str(source), device)

    def save(self, policy: FlowPolicy, folder: Path) -> None:
        if policy.base:
            publish_adapter(policy, folder)
            return
        held = policy.numerics.published
        self._write(cast(policy.model, dtype_of(held)) if held else policy.model, folder)
        if policy.link:
            write_json(folder / LINK, policy.link)

    def _write(self, model: SD3Transformer2DModel, folder: Path) -> None:
        place = folder / MODEL
        model.save_pretrained(place / TRANSFORMER)
        config = place / TRANSFORMER / "config.json"
        write_json(config, {k: v for k, v in json.loads(config.read_text()).items() if k != "_name_or_path"})
        FlowMatchEulerDiscreteScheduler(shift=self.shift).save_pretrained(place / SCHEDULER)
        write_json(place / "model_index.json", INDEX)

    def require_same(self, policy: FlowPolicy, other: FlowPolicy, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(
                where, f"the {role} goes other steps than the student: other latents, times, noise, guidance or prompts"
            )

    def identity(self, policy: FlowPolicy) -> dict:
        return {"flow": {"latents": list(policy.shape), **asdict(self)}}
