"""Nodes whose trainer is verl: what verl is asked for, and its model published as any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from opd_steps.config import plugs
from opd_steps.config.needs import outcome_need, terms
from opd_steps.config.teachers import SOURCES, Teaching, asked
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.policy import Policy
from opd_steps.steps._models import adapts, load_policy
from opd_steps.steps._rows import pass_rates
from opd_steps.steps._training import publish_model
from opd_steps.store.artifacts import Job
from opd_steps.store.metrics import read_metrics
from opd_steps.verl.beside import told
from opd_steps.verl.node import Course, fill, train


def opd(job: Job, teachings: Mapping[str, Teaching], facts: dict) -> None:
    """Train an opd node."""
    options, method = job.options, job.options["method"]
    whom = {name: asks for name, asks in asked(options, teachings).items() if name in teachings}
    served = next((name for name in whom if teachings[name].engine["name"] != "local"), "")
    select = plugs.load("tasks/selection", options["select"])
    rates = pass_rates(job) if "pass_rates" in job.parents else None
    course = Course(
        student="student",
        method=method,
        rewards=method if any(map(outcome_need, terms(method))) else {},
        picks=lambda pool, step: select.pick(len(pool), job.seed, step, options["prompts"], rates),
        server=teachings[served].model if served else "",
        topk=whom[served].topk if served else 0,
        teachers={name: None if name == served else _beside(job, teachings[name]) for name in whom},
        contexts={name: teachings[name].context for name in whom if teachings[name].context["name"] != "plain"},
    )
    _run(job, course, facts)


def rl(job: Job, method: dict, facts: dict) -> None:
    """Train an rl node, whose objective stands in `method`."""
    options = job.options
    course = Course(
        student="policy",
        method=method,
        rewards={name: options[name] for name in ("rewards", "overlong_buffer", "advantage", "divide_by_std", "sampling")},
        picks=lambda pool, step: pool.pick(job.seed, step, options["prompts"]),
        teachers={"reference": _model(job, "policy", Numerics.frozen(options))} if options["kl"] else {},
    )
    _run(job, course, facts)


def _beside(job: Job, teaching: Teaching) -> dict:
    """A teacher in the training workers: a model, or those among whom rows are routed."""
    source, options = plugs.load(SOURCES, teaching.weights), job.options
    if teaching.others:
        return {"column": source.column, "to": dict(source.to)}
    numerics = Numerics.frozen(options, teaching.dtype)
    if source.follows:
        numerics = replace(numerics, weights=options["weights"])
    return _model(job, teaching.model or "student", numerics, source.follows)


def _model(job: Job, role: str, numerics: Numerics, follows: float = 0.0) -> dict:
    return told(job.path(role), job.manifests[role]["facts"]["family"], numerics, job.options["sampling"], follows)


def _run(job: Job, course: Course, facts: dict) -> None:
    start = lambda: load_policy(job, course.student, job.options["sampling"], train=True)
    if adapts(job):
        course = replace(course, adapter=lambda folder: _write_adapter(start(), folder))
    model, metrics, told = train(job, course)
    if course.teachers and job.kind == "opd":
        metrics["teacher/sequences"] = sum(row["train/teacher_rows"] for row in read_metrics(job.work / "metrics.jsonl"))
    policy = start()
    fill(policy, model)
    publish_model(job, policy, metrics, facts | told)


def _write_adapter(policy: Policy, folder: Path) -> None:
    from opd_steps.models.adapters import save_adapter  # peft: 1 s, which nobody else needs

    save_adapter(policy.model, folder)
