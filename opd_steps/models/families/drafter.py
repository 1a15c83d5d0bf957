"""Drafters of language models: small models that say in advance what their target will say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from opd_steps.errors import NotFinite, UserError
from opd_steps.models.bases import BASE, Base, base_of
from opd_steps.models.draft_head import DraftHead
from opd_steps.models.drafter_policy import DrafterPolicy
from opd_steps.models.families import Family
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32, Numerics, dtype_of
from opd_steps.models.tokenizers import digest
from opd_steps.process.finite import not_finite
from opd_steps.seeds import derive

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job

WEIGHTS = "drafter.safetensors"


@dataclass(frozen=True)
class Drafter(Family):
    """One layer over hidden states of a frozen target (models/draft_head.py), made by a node of kind `drafter`, which names the target.

    The folder holds the drafter's own weights, and base.json, which names the target's node. It is none that vLLM reads: of EAGLE-3 vLLM
    knows layers whose projections take 2 D inputs, and those are not the library's.
    """

    TEXT: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    LACKS: ClassVar[tuple[str, ...]] = ("attention", "recompute", "micro_tokens")

    block: Annotated[int, "at least 1"] = 5  # tokens of a draft
    layers: Annotated[list[int], "at least 0"] = field(
        default_factory=list
    )  # of the target, 0: its embedding; []: first, middle, last

    def make(self, job: Job) -> dict:
        raise UserError("family", "a drafter stands on a target: make it by a node of kind drafter")

    def read_layers(self, target: PreTrainedModel) -> list[int]:
        depth = target.config.num_hidden_layers
        if wrong := [layer for layer in self.layers if layer > depth]:
            raise UserError("family.layers", f"layer {max(wrong)} is asked of a target that has {depth}")
        return self.layers or [1, max(depth // 2, 1), depth]

    def fresh(self, target: LMPolicy, base: Base, seed: int) -> DrafterPolicy:
        """A drafter that has learned nothing, a function of seed and target."""
        torch.manual_seed(derive(seed, "drafter"))
        return self._of(target, base)

    def _of(self, target: LMPolicy, base: Base, sampling: Mapping | None = None, numerics: Numerics = FP32) -> DrafterPolicy:
        model = DraftHead(target.model, len(self.read_layers(target.model))).to(target.device, dtype_of(numerics.weights))
        return DrafterPolicy(model, target, self, base, sampling, numerics)

    def policy(
        self,
        folder: Path,
        *,
        numerics: Numerics = FP32,
        sampling: Mapping | None = None,
        batch: int = 256,
        train: bool = False,
    ) -> DrafterPolicy:
        if (below := base_of(Path(folder))) is None or not (Path(folder) / WEIGHTS).is_file():
            raise UserError(str(folder), f"holds no drafter: expected {WEIGHTS} and {BASE}")
        read = replace(numerics, weights=numerics.compute)  # nobody trains the target
        target = CausalLM().policy(below, numerics=read, batch=batch)
        made = self._of(target, Base(**json.loads((Path(folder) / BASE).read_text())), sampling, numerics)
        made.model.load_state_dict(load_file(Path(folder) / WEIGHTS))
        if name := not_finite(made.model.named_parameters()):
            raise NotFinite(str(folder), f"the weight {name} is not finite")
        made.model.requires_grad_(train).eval()
        return made

    def save(self, policy: DrafterPolicy, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        held = {} if policy.numerics.published is None else {"dtype": dtype_of(policy.numerics.published)}
        weights = policy.model.named_parameters()
        save_file({name: p.detach().to("cpu", **held).contiguous() for name, p in weights}, folder / WEIGHTS)
        policy.base.write(folder)

    def require_same(self, policy: DrafterPolicy, other, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(where, f"the {role}'s tokenizer (vocabulary, special tokens or chat template) is not the drafter's")

    def identity(self, policy: DrafterPolicy) -> dict:
        return {"tokenizer": digest(policy.tokenizer)}
