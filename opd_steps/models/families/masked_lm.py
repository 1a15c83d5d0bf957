"""Masked diffusion language models: bidirectional ones of transformers, or with their own code, that write by uncovering masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

from opd_steps.errors import UserError
from opd_steps.models import external
from opd_steps.models.families.causal_lm import _SAMPLING, CausalLM
from opd_steps.models.fields import require_fields
from opd_steps.models.folder import LINK, MODEL, load_model, load_tokenizer, read_tokenizer, save_model, where
from opd_steps.models.masked_policy import MaskedPolicy
from opd_steps.models.numerics import FP32, Numerics
from opd_steps.models.ready import ready_model
from opd_steps.seeds import derive
from opd_steps.store.files import write_json

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from opd_steps.models.bases import Tuning
    from opd_steps.store.artifacts import Job

KNOWN = {auto.__name__: auto for auto in (AutoModelForMaskedLM, AutoModelForCausalLM, AutoModel)}


@dataclass(frozen=True)
class MaskedLM(CausalLM):
    """A checkpoint at `path`, or a fresh ModernBERT of `config` (fields of transformers' ModernBertConfig) whose tokenizer gets a mask. It
    writes as models/masked_policy.py says: `block` places at a time, `per_step` of them in each forward pass.

    A checkpoint with code of its own, as LLaDA's, is read when `trust_remote_code` allows it to run that code, never otherwise; saved, it
    keeps it. Written texts are learned by an opd node with prefix `masked`.
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "config", "tokenizer", "data")
    ENGINES: ClassVar[tuple[str, ...]] = ("local",)
    TEXT: ClassVar[bool] = True
    WRITTEN: ClassVar[bool] = False
    PARALLEL: ClassVar[bool] = False
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    STOPS: ClassVar[bool] = False
    UNCARRIED: ClassVar[str] = "it trains causal language models"
    CHECKS: ClassVar[tuple[str, ...]] = ("block % per_step == 0",)

    block: Annotated[int, "at least 1"] = 32
    per_step: Annotated[int, "at least 1"] = 2
    mask: str = "<mask>"  # the token's name; LLaDA's is <|mdm_mask|>
    trust_remote_code: bool = False

    def make(self, job: Job) -> dict:
        from opd_steps.models.made import tokenizer_of, tokens  # code of model nodes alone (graph/code.py)

        path = job.options["path"]
        if path is not None:
            facts, folder, config, tokenizer = self._link(job, path)
            return facts | tokens(tokenizer, folder, config)
        tokenizer = tokenizer_of(job)
        tokenizer.add_special_tokens({"mask_token": self.mask})
        model = self._fresh(job.options["config"], tokenizer, job.seed)
        save_model(model, tokenizer, job.stage / MODEL)
        facts = {"kind": "fresh", "parameters": sum(p.numel() for p in model.parameters())}
        return facts | tokens(tokenizer, job.stage / MODEL, model.config)

    def _fresh(self, options: dict, tokenizer: PreTrainedTokenizerBase, seed: int) -> ModernBertForMaskedLM:
        own = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        own |= dict.fromkeys(("bos_token_id", "cls_token_id", "sep_token_id"))
        if wrong := sorted(own.keys() & options.keys()):
            raise UserError(f"config.{wrong[0]}", "it follows from the tokenizer: leave it out")
        require_fields(options, ModernBertConfig())
        torch.manual_seed(derive(seed, "model"))
        try:
            config = ModernBertConfig(**options, **own)
            return ModernBertForMaskedLM(config).eval()
        except Exception as error:  # each field has its own way to be refused
            raise UserError("config", f"no model of transformers' ModernBertConfig: {error}") from None

    def _link(self, job: Job, path: str) -> tuple[dict, Path, PreTrainedConfig, PreTrainedTokenizerBase]:
        folder = external.locate(path, job.options["revision"])
        external.check(folder)
        config, tokenizer = self._config(folder), read_tokenizer(str(folder))
        if self.mask not in tokenizer.get_vocab():
            raise UserError("family.mask", f"the tokenizer of {path} has no token {self.mask!r}")
        revision = external.commit(folder)
        files = job.sources.get("path") or external.file_hashes(folder)
        write_json(job.stage / LINK, {"path": path, "revision": revision, "files": files})
        weights = {name: entry for name, entry in files.items() if name.endswith(".safetensors")}
        facts = {"kind": "external", "source": path, "revision": revision, "weights": weights}
        return facts, folder, config, tokenizer

    def _config(self, folder: Path | str) -> PreTrainedConfig:
        try:
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=self.trust_remote_code)
        except Exception as error:  # each architecture has its own way to refuse a field
            what = "" if self.trust_remote_code else " (a checkpoint with its own code: family.trust_remote_code)"
            raise UserError(f"{folder}/config.json", f"{str(error).splitlines()[0]}{what}") from None

    def _by(self, folder: Path) -> dict[str, Any]:
        """How to load it: by transformers' class for masked models; with code of its own, by the class that the checkpoint names."""
        named = getattr(self._config(where(folder)), "auto_map", None) or {}
        auto = next((auto for name, auto in KNOWN.items() if name in named), AutoModelForMaskedLM)
        return {"auto": auto, "own_code": self.trust_remote_code}

    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
        tuning: Tuning | None = None,
    ) -> MaskedPolicy:
        for name, all_of_it in (("top_p", 1.0), ("top_k", 0)):
            if sampling and sampling.get(name, all_of_it) != all_of_it:
                raise UserError(
                    f"sampling.{name}", f"a masked model's tokens are drawn from all of them: expected {all_of_it:g}"
                )
        model = ready_model(folder, numerics, train, tuning, **self._by(folder))
        options = {name: sampling[name] for name in _SAMPLING if name in sampling} if sampling else {}
        base = tuning.base if tuning else None
        return MaskedPolicy(model, load_tokenizer(folder), family=self, numerics=numerics, batch=batch, base=base, **options)

    def weights(self, folder: Path) -> dict[str, Tensor]:
        return dict(load_model(folder, **self._by(folder)).named_parameters())
