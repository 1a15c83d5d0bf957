"""What the training steps share: loading a parent as a policy, and publishing the trained one."""

from __future__ import annotations

import torch

from opd_steps import ranks
from opd_steps.artifacts import Job
from opd_steps.errors import UserError
from opd_steps.fingerprint import digest
from opd_steps.loop.objective import Objective
from opd_steps.models.checkpoint import load_model, load_tokenizer, save_model
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import digest as tokenizer_digest
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import VANILLA


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


def publish_model(job: Job, policy: LMPolicy, metrics: dict[str, float], facts: dict) -> None:
    """Publish model/ (HF format), metrics.jsonl, the curves' summary and the facts that later nodes ask for."""
    save_model(policy.model, policy.tokenizer, job.stage / "model")
    if job.writes:
        (job.stage / "metrics.jsonl").write_bytes((job.work / "metrics.jsonl").read_bytes())
    job.publish(metrics, {"tokenizer": tokenizer_digest(policy.tokenizer), **facts})


def mle_objective() -> Objective:
    """Mean cross-entropy over all response tokens of the step, end token included."""
    return Objective.from_method({**VANILLA, "estimator": {"name": "mle"}, "aggregate": "token_mean"}, 0)


def supervised_rows(pairs: list[tuple[list[int], list[int]]]) -> Trajectory:
    """(context ids, response ids) pairs as a trajectory that nobody sampled."""
    contexts, responses = zip(*pairs, strict=True)
    return Trajectory(list(contexts), [torch.tensor(r) for r in responses], torch.arange(len(pairs)))
