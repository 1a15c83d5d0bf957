"""On-policy distillation: the student samples, the teacher scores every token, the method's row says how that becomes a gradient."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable

import torch

from opd_steps.config import plugs
from opd_steps.config.needs import outcome_need, terms
from opd_steps.config.versions import versions
from opd_steps.errors import UserError
from opd_steps.hooks import Setting
from opd_steps.loop.batches import fixed_rows, rollout_metrics
from opd_steps.loop.buffer import RolloutBuffer, RolloutRing
from opd_steps.loop.conductor import Conductor
from opd_steps.loop.objective import NEEDS, Objective
from opd_steps.loop.prefixes import Prefixes
from opd_steps.loop.train import train
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.task import Pool
from opd_steps.objectives.outcome import group_advantage
from opd_steps.rollout.table import read_rollouts, with_scores
from opd_steps.steps._engines import engine_teacher, sampling_engine, seen, start_teacher
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool, require_same, weights_id
from opd_steps.steps._training import publish_model
from opd_steps.store.artifacts import Job
from opd_steps.teachers.cached import CachedTeacher


def run(job: Job) -> None:
    """Build student, teacher and reference, the source of prefixes, the objective and what moves it; then the one loop."""
    options, sampling = job.options, job.options["sampling"]
    objective = Objective.from_method(options["method"], sampling["max_new_tokens"])
    objectives = [Objective.from_method(o["method"], 1) for o in versions(options)]
    asks_reference = any(o.needs("reference") != "none" for o in objectives)
    student = load_policy(job, "student", sampling, options["engine"]["batch"], train=True)
    models, source = {"student": student}, plugs.load("teachers/sources", options["teacher_source"])
    for role in ("teacher", "reference"):
        if role in job.parents and (role == "teacher" or asks_reference):
            elsewhere = role == "teacher" and options["teacher_engine"]["name"] != "local"
            models[role] = (
                engine_teacher(job, *most_needed(objectives), sampling["temperature"])
                if elsewhere
                else load_policy(job, role, sampling, options["engine"]["batch"])
            )
            if role == "reference" or not source.OTHER_TOKENIZER:
                require_same(student, models[role], job, role)
    pool = load_pool(job, "train", student)
    controllers = [plugs.load("schedules", item) for item in options["controllers"]]
    conductor = Conductor(options, controllers, objective, list(models.values()))
    if "scores" in job.parents:
        check_consistency(job)
        teacher, make_batch, hooks = CachedTeacher(), cached_batches(job), []
    else:
        teacher = source.teacher(models["teacher"], pool)
        make_batch, hooks = live_batches(job, models, pool, conductor, getattr(teacher, "prepare", None))
        hooks += filter(None, [source.hook(models["teacher"])])
    setting = Setting(student, pool, job.seed, job.path("student"), job.parents.get("update_of"))
    hooks += [plugs.load("hooks", item).make(setting) for item in options["hooks"]]
    metrics = train(job, student, make_batch, objective, teacher, models.get("reference"), (*hooks, conductor))
    live = job.manifests.get("teacher")
    facts = {"teacher": weights_id(live) if live else job.manifests["scores"]["facts"]["teacher"]}
    publish_model(job, student, metrics, facts | {"traces_from": job.manifests["student"]["facts"].get("traces_from")})


def most_needed(objectives: list[Objective]) -> tuple[str, int]:
    """What of the teacher any of them asks for, and how many of its likeliest tokens."""
    needs = [o.needs("teacher") for o in objectives]
    return max(needs, key=NEEDS.index), max(s.topk for o in objectives for s in o.streams)


def all_terms(options: dict) -> list[dict]:
    """The terms of the node's method, and all that its controllers may bring."""
    return [row for version in versions(options) for row in terms(version["method"])]


def live_batches(
    job: Job, models: dict, pool: Pool, conductor: Conductor, prepare: Callable | None = None
) -> tuple[Callable[[int], Batch], list]:
    """(make_batch, hooks): rows of the step's sources, what the teacher sees of them (`prepare`: its own wish), outcome advantages."""
    options, method = job.options, job.options["method"]
    methods = [o["method"] for o in versions(options)]
    streams = all_terms(options)
    texts = any(m["prefix"]["source"] in ("dataset", "mixture") for m in methods) or any(
        s["rows"] == "dataset" for s in streams
    )
    solutions = pool.written(method["prefix"]["column"]) if texts else None
    prefixes = Prefixes(
        models["student"],
        models["teacher"],
        pool,
        plugs.load("tasks/selection", options["select"]),
        job.seed,
        solutions,
        pass_rates(job) if "pass_rates" in job.parents else None,
    )
    context = plugs.load("teachers/contexts", options["context"])
    sampled = max(o["sampling"]["max_new_tokens"] for o in versions(options))
    if options["teacher_engine"]["name"] != "local":
        texts_B = [len(a) for a in solutions.actions] if texts else [0] * len(pool)
        shown = seen(context, pool, job.seed)
        start_teacher(job, models["teacher"], ((len(c), max(sampled, t)) for c, t in zip(shown, texts_B, strict=True)))
    models["student"].engine = sampling_engine(job, "student", pool, sampled, learns=True)
    outcome = any(outcome_need(row) for row in streams)

    def make(step: int, version: int) -> Batch:
        return prefixes.batch(step, conductor.options, version)

    ahead = dict(options["buffer"])
    kind = RolloutRing if ahead.pop("mixed") else RolloutBuffer
    buffer = None if (ahead["batches"], ahead["passes"]) == (1, 1) else kind(make, **ahead)

    def make_batch(step: int) -> Batch:
        batch = buffer.batch(step) if buffer else make(step, step - 1)
        rows = context.prepare(batch.rows, pool, job.seed)
        rows = prepare(rows) if prepare else rows
        columns = dict(batch.columns)
        if outcome:
            sources = rows.extra.get("source", [""] * len(rows))
            keys = list(zip(sources, rows.prompt_B.tolist(), strict=True))  # samples of one prompt by one sampler
            number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
            group_B = torch.tensor([number[key] for key in keys])
            reward_B = rows.reward_B.where(~rows.reward_B.isnan(), 0.0)  # rows that nobody judged
            columns["outcome"] = group_advantage(reward_B, group_B, method["advantage"], method["divide_by_std"])
        return Batch(rows, columns, batch.metrics)

    return make_batch, [buffer] if buffer else []


def cached_batches(job: Job) -> Callable[[int], Batch]:
    """Rollouts and scores from files: no live teacher, no sampler."""
    rollouts = job.results / job.manifests["scores"]["parents"]["rollouts"]["path"]
    rows = with_scores(read_rollouts(rollouts), job.path("scores"))
    count = job.options["prompts"] * job.options["sampling"]["n"]

    def make_batch(step: int) -> Batch:
        batch = fixed_rows(rows, job.seed, step, count)
        return Batch(batch.rows, metrics=rollout_metrics(batch.rows))

    return make_batch


def pass_rates(job: Job) -> dict[int, float]:
    """Share of correct samples by prompt, from a rollouts table."""
    rows, found = read_rollouts(job.path("pass_rates")), defaultdict(list)
    for prompt, reward in zip(rows.prompt_B.tolist(), rows.reward_B.tolist(), strict=True):
        found[prompt].append(reward)
    return {prompt: sum(rewards) / len(rewards) for prompt, rewards in found.items()}


def check_consistency(job: Job) -> None:
    """Teacher consistency (arXiv 2604.13010): the SFT traces must come from the teacher that wrote the scores."""
    wrote, taught = job.manifests["scores"]["facts"]["teacher"], job.manifests["student"]["facts"].get("traces_from")
    if wrote == taught:
        return
    message = "the student's SFT traces come from another teacher than the scores (or from none)"
    if job.options["teacher_consistency"] == "stop":
        raise UserError(str(job.path("scores")), message + "; set teacher_consistency: warn to go on")
    print(f"warning: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(run)
