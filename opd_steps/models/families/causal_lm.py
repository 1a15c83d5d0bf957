"""Causal language models of transformers with their tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from opd_steps.errors import UserError
from opd_steps.models.families import Family
from opd_steps.models.folder import load_model, load_tokenizer, outline
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32, Numerics
from opd_steps.models.ready import publish, ready_model
from opd_steps.models.tokenizers import digest

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.models.bases import Tuning
    from opd_steps.store.artifacts import Job

_SAMPLING = ("temperature", "top_p", "top_k", "max_new_tokens", "stop")


@dataclass(frozen=True)
class CausalLM(Family):
    """A checkpoint at `path`, or a fresh model of `architecture` and `config`. Contexts are token ids, decisions are tokens.

    Two of them can be compared when their tokenizers are one: vocabulary, special tokens and chat template.
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "architecture", "config", "tokenizer", "speaks", "data")
    ENGINES: ClassVar[tuple[str, ...]] = ("local", "vllm", "server")
    TEXT: ClassVar[bool] = True
    PARALLEL: ClassVar[bool] = True
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    STOPS: ClassVar[bool] = True
    UNCARRIED: ClassVar[str] = ""

    def make(self, job: Job) -> dict:
        from opd_steps.models.made import fresh, linked  # code of model nodes alone (graph/code.py)

        path = job.options["path"]
        return fresh(job) if path is None else linked(job, path, job.options["revision"])

    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
        tuning: Tuning | None = None,
        weights: bool = True,
    ) -> LMPolicy:
        model = ready_model(folder, numerics, train, tuning) if weights else outline(folder)
        options = {name: sampling[name] for name in _SAMPLING if name in sampling} if sampling else {}
        base = tuning.base if tuning else None
        return LMPolicy(model, load_tokenizer(folder), family=self, numerics=numerics, batch=batch, base=base, **options)

    def save(self, policy: LMPolicy, folder: Path) -> None:
        publish(policy, folder)

    def require_same(self, policy: LMPolicy, other: LMPolicy, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(where, f"the {role}'s tokenizer (vocabulary, special tokens or chat template) is not the student's")

    def identity(self, policy: LMPolicy) -> dict:
        return {"tokenizer": digest(policy.tokenizer)}

    def weights(self, folder: Path) -> dict[str, Tensor]:
        return dict(load_model(folder).named_parameters())
