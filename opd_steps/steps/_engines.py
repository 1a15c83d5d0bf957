"""Inference engines that a step runs beside the torch models: vLLM in its own process, or a server. Cheap checks come before their start."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from opd_steps.config.asks import Asks
from opd_steps.errors import UserError
from opd_steps.models.ends import end_ids, stated_ends
from opd_steps.models.families import Family
from opd_steps.models.folder import load_tokenizer, weights_at, where
from opd_steps.nouns.policy import Sampler
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.rollout.lengths import longest, require_room
from opd_steps.rollout.vllm_engine import VllmEngine
from opd_steps.rollout.vllm_server import VllmServer
from opd_steps.rollout.vllm_student import VllmStudent
from opd_steps.steps._models import family, row_room
from opd_steps.store.artifacts import Job
from opd_steps.teachers.engine import EngineTeacher


def sampling_engine(job: Job, role: str, pool: Pool, answer: int, learns: bool = False) -> Sampler | None:
    """Who samples for the parent `role`, from its weights; None: the torch model itself. `learns`: new weights will come.

    Raises UserError where the pool's longest prompt and an answer of `answer` decisions do not fit.
    """
    options = job.options["engine"]
    if options["name"] == "local":
        return None
    _require_engine(job, role, options, "engine")
    path = where(job.path(role))
    prompt, room = longest(pool.contexts([i])[0] for i in range(len(pool))), row_room(job, answer)
    require_room("engine.max_model_len", path, options["max_model_len"], prompt, room)
    ends = end_ids(load_tokenizer(job.path(role)), stated_ends(path))
    dtype, stops = options["dtype"] or job.options["dtype"], len(job.options["sampling"]["stop"])
    path = _weights_of(job, role, dtype)
    if options["name"] == "server":
        return VllmStudent(path, options, dtype, ends, job.work / f"{role}_samples.log", learns, stops)
    return VllmEngine(path, options, dtype, ends, learns, stops=stops)


def engine_teacher(
    job: Job, role: str, options: dict, key: str, asks: Asks, temperature: float, dtype: str | None = None
) -> EngineTeacher:
    """The parent `role` behind an engine of these options, vllm or server, which the option `key` names; not started yet.

    `dtype`: of its weights, where the engine's options name none; None: the node's.
    """
    dtype = options["dtype"] or dtype or job.options["dtype"]
    of = _require_engine(job, role, options, key)
    tokenizer = load_tokenizer(job.path(role))

    def make(scores: int) -> VllmEngine | VllmServer:
        path = _weights_of(job, role, dtype)
        if options["name"] == "server":
            return VllmServer(path, options, dtype, tokenizer, scores, job.work / f"{role}_server.log", key)
        return VllmEngine(path, options, dtype, [tokenizer.eos_token_id], scores=scores)  # it scores, and ends nothing

    return EngineTeacher(make, tokenizer, asks, temperature, of)


def _weights_of(job: Job, role: str, dtype: str) -> str:
    """The parent's whole weights as files; of several ranks the first one makes a merged copy, where it takes one."""
    return ranks.gather(weights_at(job.path(role), job.work, dtype) if ranks.first() else "")[0]


def _require_engine(job: Job, role: str, options: dict, key: str) -> Family:
    """The family of the parent `role`. Raises UserError unless the engine of these options, named by `key`, runs such models."""
    found, name = family(job, role), options["name"]
    if name not in found.ENGINES:
        known = ", ".join(found.ENGINES)
        raise UserError(f"{key}.name", f"{name} runs no {job.manifests[role]['facts']['family']['name']} model: use {known}")
    return found


def start_teacher(
    job: Job, teacher: EngineTeacher, role: str, options: dict, key: str, rows: Iterable[tuple[int, int]]
) -> None:
    """Start the engine of the parent `role` for rows of up to so many tokens of prompt and answer; `key`: the option that names it.

    Raises UserError where one does not fit.
    """
    prompt, answer = max(rows, key=sum)
    require_room(f"{key}.max_model_len", where(job.path(role)), options["max_model_len"], prompt, answer)
    teacher.start(prompt + answer)


def seen(context, pool: Pool, seed: int) -> list[list[int]]:
    """The prompts as a teacher's context shows them; plain ones where it is made of samples, which are not there yet."""
    contexts = pool.contexts(range(len(pool)))
    if context.GROUP:
        return contexts
    rows = Trajectory(contexts, [torch.zeros(0, dtype=torch.long)] * len(pool), torch.arange(len(pool)))
    return context.prepare(rows, pool, seed, "teacher").extra.get("context:teacher", contexts)
