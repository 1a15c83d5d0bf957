"""Language models that see pictures and videos: Qwen3-VL of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from opd_steps.errors import UserError
from opd_steps.models import external
from opd_steps.models.ends import end_ids, stated_ends
from opd_steps.models.families import Family
from opd_steps.models.fields import require_fields
from opd_steps.models.folder import LINK, MODEL, load_tokenizer, read_tokenizer, save_model
from opd_steps.models.numerics import FP32, Numerics
from opd_steps.models.ready import publish, ready_model
from opd_steps.models.sight import GREY, IMAGES, VIDEOS
from opd_steps.models.tokenizers import byte_tokenizer, describe, digest
from opd_steps.models.vl_policy import VLPolicy
from opd_steps.models.vl_reading import VLReading
from opd_steps.process import ranks
from opd_steps.rollout.positions import positions
from opd_steps.seeds import derive
from opd_steps.store.files import write_json

if TYPE_CHECKING:
    from opd_steps.models.bases import Tuning
    from opd_steps.store.artifacts import Job

MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
FIELDS = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
SAFELY = {"local_files_only": True, "trust_remote_code": False}
_SAMPLING = ("temperature", "top_p", "top_k", "max_new_tokens", "stop")


@dataclass(frozen=True)
class VL(Family):
    """A checkpoint of Qwen3-VL's kind at `path`, or a fresh model of `config` (fields of transformers' Qwen3VLConfig) that reads bytes.

    template   the words around a question; {seen} is the picture, or a video's pictures each behind its time, {prompt} the question
    stamp      a picture's time in a video; t are seconds
    image_pixels, video_pixels   of an image, and of all pictures of a video together, at most; 0: as the checkpoint's files say

    Two can be compared when their tokenizers are one.
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "config")
    CHECKS: ClassVar[tuple[str, ...]] = ("'{seen}' in template", "'{prompt}' in template", "'{t' in stamp")
    PARALLEL: ClassVar[bool] = True
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    STOPS: ClassVar[bool] = True

    template: str = "<|im_start|>user\n{seen}{prompt}<|im_end|>\n<|im_start|>assistant\n"
    stamp: str = "<{t:.1f} seconds>"
    image_pixels: Annotated[int, "at least 0"] = 0
    video_pixels: Annotated[int, "at least 0"] = 0

    @property
    def parts(self) -> tuple[str, str, str]:
        """The template before what is seen, between that and the question, and behind. Raises UserError where the question comes first."""
        before, _, rest = self.template.partition("{seen}")
        between, found, behind = rest.partition("{prompt}")
        if not found:
            raise UserError("family.template", "expected {seen} before {prompt}")
        return before, between, behind

    def make(self, job: Job) -> dict:
        if path := job.options["path"]:
            return self._link(job, path)
        tokenizer, config = byte_tokenizer(), dict(job.options["config"])
        tokenizer.add_tokens(list(MARKS), special_tokens=True)
        marks = dict(zip(FIELDS, tokenizer.convert_tokens_to_ids(list(MARKS)), strict=True))
        own = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        text = dict(config.get("text_config") or {})
        if known := sorted((own.keys() & text) | (marks.keys() & config)):
            raise UserError(f"config.{known[0]}", "it follows from the tokenizer: leave it out")
        require_fields(config, Qwen3VLConfig())
        torch.manual_seed(derive(job.seed, "model"))
        try:
            made = Qwen3VLConfig(**config | marks | {"text_config": text | own})
            model = Qwen3VLForConditionalGeneration._from_config(made, dtype=torch.float32)
        except Exception as error:  # each field has its own way to be refused
            raise UserError("config", f"no model of transformers' Qwen3VLConfig: {error}") from None
        save_model(model, tokenizer, job.stage / MODEL)
        vision, pixels = model.config.vision_config, {"min_pixels": 1, "max_pixels": 1 << 24}
        sides = {"patch_size": vision.patch_size, "merge_size": vision.spatial_merge_size}
        sides |= {"temporal_patch_size": vision.temporal_patch_size, "image_mean": GREY, "image_std": GREY}
        Qwen2VLImageProcessorPil(**sides, **pixels).save_pretrained(job.stage / MODEL)
        parameters = sum(p.numel() for p in model.parameters())
        return {"kind": "fresh", "parameters": parameters, **_tokens(tokenizer, job.stage / MODEL, model.config)}

    def _link(self, job: Job, path: str) -> dict:
        folder = external.locate(path, job.options["revision"])
        external.check(folder)
        config = AutoConfig.from_pretrained(folder, **SAFELY)
        if config.model_type != "qwen3_vl":
            raise UserError(path, f"expected a model of type qwen3_vl, found {config.model_type}")
        revision = external.commit(folder)
        files = job.sources.get("path") or external.file_hashes(folder)
        write_json(job.stage / LINK, {"path": path, "revision": revision, "files": files})
        weights = {name: entry for name, entry in files.items() if name.endswith(".safetensors")}
        facts = {"kind": "external", "source": path, "revision": revision, "weights": weights}
        return facts | _tokens(read_tokenizer(str(folder)), folder, config)

    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
        tuning: Tuning | None = None,
    ) -> VLPolicy:
        model = ready_model(folder, numerics, train, tuning, AutoModelForImageTextToText)
        options = {name: sampling[name] for name in _SAMPLING if name in sampling} if sampling else {}
        base = tuning.base if tuning else None
        return VLPolicy(model, load_tokenizer(folder), family=self, numerics=numerics, batch=batch, base=base, **options)

    def save(self, policy: VLPolicy, folder: Path) -> None:
        publish(policy, folder)
        for name in (IMAGES, VIDEOS) if policy.base is None and ranks.first() else ():  # how pixels are scaled
            if (file := Path(policy.model.config._name_or_path) / name).is_file():
                (folder / MODEL / name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")

    def reading(self, place: Path) -> VLReading:
        return VLReading(read_tokenizer(str(place)), self, AutoConfig.from_pretrained(place, **SAFELY), place)

    def require_same(self, policy: VLPolicy, other, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(where, f"the {role}'s tokenizer (vocabulary, special tokens or chat template) is not the student's")

    def identity(self, policy: VLPolicy) -> dict:
        return {"tokenizer": digest(policy.tokenizer)}


def _tokens(tokenizer, folder: Path, config) -> dict:
    ends = list(end_ids(tokenizer, stated_ends(folder)))
    vocab = config.get_text_config().vocab_size
    return {"tokenizer": describe(tokenizer), "vocab_size": vocab, "ends": ends, "positions": positions(config)}
