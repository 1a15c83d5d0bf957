"""Vision-language-action policies: a vision-language model of transformers that says what a robot does, token by token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from transformers import AutoModelForImageTextToText, LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from opd_steps.errors import UserError
from opd_steps.models import external
from opd_steps.models.families import Family
from opd_steps.models.fields import require_fields
from opd_steps.models.folder import LINK, MODEL, load_tokenizer, save_model, where
from opd_steps.models.numerics import FP32, Numerics
from opd_steps.models.ready import publish, ready_model
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.models.vla_policy import VLAPolicy
from opd_steps.process import ranks
from opd_steps.seeds import derive
from opd_steps.store.files import write_json

if TYPE_CHECKING:
    from opd_steps.models.bases import Tuning
    from opd_steps.store.artifacts import Job

OWN = ("image_token_index", "text_config.vocab_size")  # follow from the tokenizer and the bins


@dataclass(frozen=True)
class VLA(Family):
    """`path`, a checkpoint with one image before its text (LLaVA's way: input_ids and pixel_values), or a fresh model of `config` (fields
    of transformers' LlavaConfig) that reads bytes. A decision is one dimension of a motion, in `bins` steps around none; the bins are the
    last tokens of the vocabulary, as OpenVLA's (arXiv 2406.09246), and nothing else can be said.

    Two can be compared when their motions are the same: dimensions and bins.
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "config")
    PARALLEL: ClassVar[bool] = True
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    LACKS: ClassVar[tuple[str, ...]] = ("packed", "micro_tokens")
    CHECKS: ClassVar[tuple[str, ...]] = ("bins % 2 == 1", "'{prompt}' in template")

    dims: Annotated[int, "at least 1"] = 2  # tokens of an action
    bins: Annotated[int, "at least 3"] = 3  # of each: bin b is a motion of b - bins // 2
    template: str = "{prompt}:"  # what stands behind the image; {prompt} is the instruction

    @property
    def tokens(self) -> int:
        """Decisions for one look."""
        return self.dims

    @property
    def acts(self) -> type[VLAPolicy]:
        """What asks such a model."""
        return VLAPolicy

    @property
    def at_once(self) -> bool:
        """Whether these are asked for all at once, and none is told of another."""
        return False

    def told(self, prompt: str) -> str:
        return self.template.format(prompt=prompt)

    def make(self, job: Job) -> dict:
        if path := job.options["path"]:
            return self._link(job, path)
        config, tokenizer = dict(job.options["config"]), byte_tokenizer()
        torch.manual_seed(derive(job.seed, "model"))
        try:
            model = self._fresh(config, dict(config.get("text_config") or {}), len(tokenizer))
        except UserError:
            raise
        except Exception as error:  # each field has its own way to be refused
            raise UserError("config", f"no model of {self.form}: {error}") from None
        save_model(model, tokenizer, job.stage / MODEL)
        return {"kind": "fresh", "vocab_size": self.bins, "parameters": sum(p.numel() for p in model.parameters())}

    @property
    def form(self) -> str:
        """Of fresh models, as errors name it."""
        return "transformers' LlavaConfig"

    def _fresh(self, config: dict, text: dict, words: int) -> PreTrainedModel:
        """Of the config's fields, those of its text among them, that reads so many words. Raises UserError for others."""
        if "image_token_index" in config or "vocab_size" in text:
            raise UserError("config", f"{' and '.join(OWN)} follow from the family's bins: leave them out")
        text["vocab_size"] = words + 1 + self.bins
        require_fields(config, LlavaConfig())
        return LlavaForConditionalGeneration(LlavaConfig(**config | {"text_config": text, "image_token_index": words}))

    def _link(self, job: Job, path: str) -> dict:
        folder = external.locate(path, job.options["revision"])
        external.check(folder)
        self._require(folder, path)
        revision = external.commit(folder)
        files = job.sources.get("path") or external.file_hashes(folder)
        write_json(job.stage / LINK, {"path": path, "revision": revision, "files": files})
        weights = {name: entry for name, entry in files.items() if name.endswith(".safetensors")}
        return {"kind": "external", "source": path, "revision": revision, "weights": weights, "vocab_size": self.bins}

    def _require(self, folder: Path, path: str) -> None:
        """Raises UserError for a checkpoint of another form."""
        config = json.loads((folder / "config.json").read_text())
        if not isinstance(config.get("vision_config"), dict) or not isinstance(config.get("image_token_index"), int):
            raise UserError(path, "expected a vision-language model of LLaVA's kind (vision_config and image_token_index)")

    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
        tuning: Tuning | None = None,
    ) -> VLAPolicy:
        self._require(Path(where(folder)), str(folder))
        model, base = ready_model(folder, numerics, train, tuning, AutoModelForImageTextToText), tuning and tuning.base
        return self.acts(model, load_tokenizer(folder), self, sampling, batch, numerics, base)

    def save(self, policy: VLAPolicy, folder: Path) -> None:
        publish(policy, folder)
        for name, text in policy.seen_as.items() if policy.base is None and ranks.first() else ():
            (folder / MODEL / name).write_text(text, encoding="utf-8")

    def require_same(self, policy: VLAPolicy, other: VLAPolicy, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(where, f"the {role} moves otherwise than the student: other dimensions or bins of an action")

    def identity(self, policy: VLAPolicy) -> dict:
        return {"motions": {name: value for name, value in asdict(self).items() if name in ("dims", "bins")}}
