"""Inference engines that a step runs beside the torch models: vLLM in its own process, or a server."""

from __future__ import annotations

from opd_steps.artifacts import Job
from opd_steps.models.checkpoint import load_tokenizer, where
from opd_steps.rollout.vllm_engine import VllmEngine
from opd_steps.rollout.vllm_server import VllmServer
from opd_steps.teachers.engine import EngineTeacher


def sampling_engine(job: Job, role: str, learns: bool = False) -> VllmEngine | None:
    """Who samples for the parent `role`, from its weights; None: the torch model itself. `learns`: new weights will come."""
    options = job.options["engine"]
    if options["name"] == "local":
        return None
    eos = load_tokenizer(job.path(role)).eos_token_id
    return VllmEngine(where(job.path(role)), options, job.options.get("dtype", "float32"), eos, learns)


def engine_teacher(job: Job, need: str, topk: int, temperature: float) -> EngineTeacher:
    """The parent `teacher` behind the node's teacher_engine, vllm or server."""
    options, path, dtype = job.options["teacher_engine"], where(job.path("teacher")), job.options.get("dtype", "float32")
    tokenizer = load_tokenizer(job.path("teacher"))

    def start(scores: int) -> VllmEngine | VllmServer:
        if options["name"] == "server":
            return VllmServer(path, options, dtype, tokenizer, scores, job.work / "teacher_server.log")
        return VllmEngine(path, options, dtype, tokenizer.eos_token_id, scores=scores)

    return EngineTeacher(start, tokenizer, need, topk, temperature)
