"""What families of flows share: a pipeline of diffusers, whose transformer is trained and whose other parts are read where they lie."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from opd_steps.errors import NotFinite, UserError
from opd_steps.models.bases import base_of
from opd_steps.models.external import commit, followed, locate
from opd_steps.models.families import Family
from opd_steps.models.flow_policy import FlowPolicy
from opd_steps.models.folder import LINK, MODEL, with_adapters
from opd_steps.models.numerics import FP32, Numerics, dtype_of
from opd_steps.models.ready import publish_adapter
from opd_steps.process import ranks
from opd_steps.process.finite import not_finite
from opd_steps.store.files import write_json

if TYPE_CHECKING:
    from opd_steps.models.bases import Tuning
    from opd_steps.store.artifacts import Job

TRANSFORMER, SCHEDULER = "transformer", "scheduler"


@dataclass(frozen=True)
class Kind:
    """title   as a person calls the pipeline
    pipeline   its class in diffusers, by name
    net        the class of its transformer
    others     its parts beside transformer and scheduler, which a node's folder leaves out
    """

    title: str
    pipeline: str
    net: type
    others: tuple[str, ...]

    @property
    def index(self) -> dict:
        """What model_index.json says of a folder that leaves the others out."""
        return {
            "_class_name": self.pipeline,
            SCHEDULER: ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            TRANSFORMER: ["diffusers", self.net.__name__],
            **{name: [None, None] for name in self.others},
        }


class FlowFamily(Family):
    """A node's folder is one that the pipeline's from_pretrained reads, when it is given the parts that are left out (or None).

    Options of each: shift, of the scheduler's times towards noise; noise, the level of the SDE's at temperature 1 (models/flow_steps.py);
    guidance, 1 is none; side, of a latent.
    """

    @property
    @abstractmethod
    def kind(self) -> Kind: ...

    @abstractmethod
    def encoder(self, config: Mapping, link: dict | None, device: str) -> Any:
        """What reads prompts (`encode`) and makes images of latents (`decode`, `latents`); `link` says where the pipeline lies."""

    @abstractmethod
    def velocity(self, model: nn.Module, x_NCHW: Tensor, sigma_N: Tensor, told: tuple[Tensor, ...]) -> Tensor:
        """d x / d sigma at x, [N, C, H, W], of what the encoder said of N prompts."""

    def times(self, scheduler: Any, steps: int) -> Tensor:
        """sigma before each step and after the last, [steps + 1]."""
        scheduler.set_timesteps(steps)
        return scheduler.sigmas

    def link(self, job: Job, path: str, **beside: Any) -> dict:
        """A link to a pipeline that exists, and to what is read `beside` it; of a folder each file counts, of a hub id the commit."""
        folder, title = locate(path, job.options["revision"]), self.kind.title
        for part in (TRANSFORMER, SCHEDULER, "text_encoder", "vae"):
            if not (folder / part).is_dir():
                raise UserError(path, f"no pipeline of {title}: it has no {part}/")
        revision = commit(folder)
        write_json(job.stage / LINK, {"path": path, "revision": revision, **beside})
        return {"kind": "external", "source": path, "revision": revision, **beside}

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
        place, link = root / MODEL, None
        if (root / LINK).is_file():
            link = json.loads((root / LINK).read_text())
            place = place if place.is_dir() else followed(link)
        if not (place / TRANSFORMER).is_dir():
            raise UserError(str(folder), f"holds no flow: expected {MODEL}/{TRANSFORMER}")
        how, device, dtype = {"local_files_only": True}, ranks.device(), dtype_of(numerics.weights)
        model = self.kind.net.from_pretrained(place / TRANSFORMER, dtype=dtype, use_safetensors=True, **how)
        model = with_adapters(model.to(device), folder).requires_grad_(train).eval()
        if name := not_finite(model.named_parameters()):
            raise NotFinite(str(place), f"the weight {name} is not finite")
        if tuning:
            tuning.plug.adapt(model, tuning.seed)
        if numerics.recompute and train:
            model.enable_gradient_checkpointing()
        model = ranks.shard(model, dtype_of(numerics.compute))
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(place / SCHEDULER, **how)
        around = scheduler, self.encoder(model.config, link, device), self, sampling, batch, link
        return FlowPolicy(model, *around, numerics, tuning and tuning.base)

    def save(self, policy: FlowPolicy, folder: Path) -> None:
        if policy.base:
            publish_adapter(policy, folder)
            return
        self.write(policy.model, folder, policy.numerics.published)
        if policy.link and ranks.first():
            write_json(folder / LINK, policy.link)

    def write(self, model: nn.Module, folder: Path, dtype: str | None = None) -> None:
        """Weights in `dtype`, None: as they are held. Called by all processes."""
        weights, place = ranks.for_writing(model.state_dict(keep_vars=True)), folder / MODEL
        if not ranks.first():
            return
        if dtype:
            own = dict(model.named_parameters())
            weights = {name: w.to(dtype_of(dtype)) if name in own else w for name, w in weights.items()}
        with torch.device("meta"):
            whole = self.kind.net.from_config(model.config)
        whole.load_state_dict({name: w.detach() for name, w in weights.items()}, assign=True)
        whole.save_pretrained(place / TRANSFORMER)
        config = place / TRANSFORMER / "config.json"
        write_json(config, {k: v for k, v in json.loads(config.read_text()).items() if k != "_name_or_path"})
        FlowMatchEulerDiscreteScheduler(shift=self.shift).save_pretrained(place / SCHEDULER)
        write_json(place / "model_index.json", self.kind.index)

    def require_same(self, policy: FlowPolicy, other: FlowPolicy, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(
                where, f"the {role} goes other steps than the student: other latents, times, noise, guidance or prompts"
            )

    def identity(self, policy: FlowPolicy) -> dict:
        return {"flow": {"latents": list(policy.shape), **asdict(self)}}
