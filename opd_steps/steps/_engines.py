"""Inference engines that a step runs beside the torch models: vLLM in its own process, or a server."""

from __future__ import annotations

from opd_steps.artifacts import Job
from opd_steps.models.checkpoint import load_tokenizer, where
from opd_steps.models.ends import end_ids, stated_ends
from opd_steps.rollout.vllm_engine import VllmEngine
from opd_steps.rollout.vllm_server import VllmServer
from opd_steps.teachers.engine import EngineTeacher


def sampling_engine(job: Job, role: str, learns: bool = False) -> VllmEngine | None:
    """Who samples for the parent `role`, from its weights; None: the torch model itself. `learns`: new weights will come."""
    options = job.options["engine"]
    if options["name"] == "local":
        return None
    path = where(job.path(role))
    ends = end_ids(load_tokenizer(job.path(role)), stated_ends(path))
    return VllmEngine(path, options, job.options.get("dtype", "float32"), ends, learns)


def engine_teacher(job: Job, need: str, topk: int, temperature: float) -> EngineTeacher:
    """The parent `teacher` behind the node's teacher_engine, vllm or server."""
    options, path, dtype = job.options["teacher_engine"], where(job.path("teacher")), job.options.get("dtype", "float32")
    tokenizer = load_tokenizer(job.path("teacher"))

    def start(scores: int) -> VllmEngine | VllmServer:
        if options["name"] == "server":
            return VllmServer(path, options, dtype, tokenizer, scores, job.work / "teacher_server.log")
        return VllmEngine(path, options, dtype, [tokenizer.eos_token_id], scores=scores)  # it scores, and ends nothing

    return EngineTeacher(start, tokenizer, need, topk, temperature)
