"""What the steps share that run models: loading a parent as a policy, and comparing it with another."""

from __future__ import annotations

import torch

from opd_steps.errors import UserError
from opd_steps.models.folder import load_model, load_tokenizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import digest as tokenizer_digest
from opd_steps.process import ranks
from opd_steps.store.artifacts import Job
from opd_steps.store.fingerprint import digest


def load_policy(job: Job, role: str, sampling: dict | None = None, batch: int = 256, train: bool = False) -> LMPolicy:
    """The model of a parent as a policy; frozen (no gradient, eval mode) unless `train`."""
    torch.manual_seed(0)  # nothing here draws from it; a library that does is at least repeatable
    model = load_model(job.path(role), job.options.get("dtype", "float32"))
    model.requires_grad_(train)
    options = {k: sampling[k] for k in ("temperature", "top_p", "max_new_tokens")} if sampling else {}
    return LMPolicy(ranks.shard(model), load_tokenizer(job.path(role)), batch=batch, **options)


def weights_id(manifest: dict) -> str:
    """Digest of a model node's weight files, wherever they lie."""
    weights = manifest["facts"].get("weights") or {n: f for n, f in manifest["files"].items() if n.endswith(".safetensors")}
    return digest({name: entry["sha256"] for name, entry in weights.items()} or manifest["facts"])


def require_same_tokenizer(student: LMPolicy, other: LMPolicy, job: Job, role: str) -> None:
    """Distillation compares distributions over the same tokens; anything else is refused."""
    if tokenizer_digest(student.tokenizer) != tokenizer_digest(other.tokenizer):
        raise UserError(
            str(job.path(role)), f"the {role}'s tokenizer (vocabulary, special tokens or chat template) is not the student's"
        )
