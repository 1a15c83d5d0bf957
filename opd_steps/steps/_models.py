"""What the training steps share: loading a parent as a policy, and publishing the trained one."""

from __future__ import annotations

import copy

import torch

from opd_steps.artifacts import Job
from opd_steps.errors import UserError
from opd_steps.fingerprint import digest
from opd_steps.loop.objective import Objective
from opd_steps.models.checkpoint import load_model, load_tokenizer, save_model, where
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import digest as tokenizer_digest
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import VANILLA
from opd_steps.rollout.vllm_engine import VllmEngine
from opd_steps.rollout.vllm_server import VllmServer
from opd_steps.teachers.engine import EngineTeacher


def load_policy(
    job: Job, role: str, sampling: dict | None = None, batch: int = 256, train: bool = False, engine: dict | None = None
) -> LMPolicy:
    """The model of a parent as a policy; frozen (no gradient, eval mode) unless `train`. `engine`: who generates for it."""
    torch.manual_seed(0)  # nothing here draws from it; a library that does is at least repeatable
    model = load_model(job.path(role), job.options.get("dtype", "float32"))
    model.requires_grad_(train)
    options = {k: sampling[k] for k in ("temperature", "top_p", "max_new_tokens")} if sampling else {}
    tokenizer, dtype = load_tokenizer(job.path(role)), job.options.get("dtype", "float32")
    if engine and engine["name"] == "vllm":
        options["engine"] = VllmEngine(where(job.path(role)), engine, dtype, tokenizer.eos_token_id, learns=train)
    return LMPolicy(model, tokenizer, batch=engine["batch"] if engine else batch, **options)


def engine_teacher(job: Job, need: str, topk: int, temperature: float) -> EngineTeacher:
    """The parent `teacher` behind the node's teacher_engine, vllm or server."""
    options, path, dtype = job.options["teacher_engine"], where(job.path("teacher")), job.options.get("dtype", "float32")
    tokenizer = load_tokenizer(job.path("teacher"))

    def start(scores: int) -> VllmEngine | VllmServer:
        if options["name"] == "server":
            return VllmServer(path, options, dtype, tokenizer, scores, job.work / "teacher_server.log")
        return VllmEngine(path, options, dtype, tokenizer.eos_token_id, scores=scores)

    return EngineTeacher(start, tokenizer, need, topk, temperature)


def frozen_copy(policy: LMPolicy) -> LMPolicy:
    """The policy as it is now, for ever."""
    frozen = copy.copy(policy)
    frozen.model = copy.deepcopy(policy.model).requires_grad_(False).eval()
    return frozen


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
    (job.stage / "metrics.jsonl").write_bytes((job.work / "metrics.jsonl").read_bytes())
    job.publish(metrics, {"tokenizer": tokenizer_digest(policy.tokenizer), **facts})


def mle_objective() -> Objective:
    """Mean cross-entropy over all response tokens of the step, end token included."""
    return Objective.from_method({**VANILLA, "estimator": {"name": "mle"}, "aggregate": "token_mean"}, 0)


def supervised_rows(pairs: list[tuple[list[int], list[int]]]) -> Trajectory:
    """(context ids, response ids) pairs as a trajectory that nobody sampled."""
    contexts, responses = zip(*pairs, strict=True)
    return Trajectory(list(contexts), [torch.tensor(r) for r in responses], torch.arange(len(pairs)))
