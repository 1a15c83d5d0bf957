"""Nodes whose trainer is verl: what verl is asked for, and its model published as any other."""

from __future__ import annotations

from collections.abc import Mapping

from opd_steps.config import plugs
from opd_steps.config.needs import outcome_need, terms
from opd_steps.config.teachers import Teaching, asked
from opd_steps.steps._models import load_policy
from opd_steps.steps._rows import pass_rates
from opd_steps.steps._training import publish_model
from opd_steps.store.artifacts import Job
from opd_steps.store.metrics import read_metrics
from opd_steps.verl.node import Course, fill, train


def opd(job: Job, teachings: Mapping[str, Teaching], facts: dict) -> None:
    """Train an opd node."""
    options, method = job.options, job.options["method"]
    whom = next(iter(asked(options, teachings).items()), None)
    select = plugs.load("tasks/selection", options["select"])
    rates = pass_rates(job) if "pass_rates" in job.parents else None
    course = Course(
        student="student",
        teacher=teachings[whom[0]].model if whom else "",
        method=method,
        asked=(whom[0], whom[1].topk) if whom else ("", 0),
        rewards=method if any(map(outcome_need, terms(method))) else {},
        picks=lambda pool, step: select.pick(len(pool), job.seed, step, options["prompts"], rates),
    )
    _run(job, course, facts)


def rl(job: Job, method: dict, facts: dict) -> None:
    """Train an rl node, whose objective stands in `method`."""
    options = job.options
    told = {name: options[name] for name in ("rewards", "overlong_buffer", "advantage", "divide_by_std", "sampling")}
    course = Course(
        student="policy",
        teacher="",
        method=method,
        asked=("", 0),
        rewards=told,
        picks=lambda pool, step: pool.pick(job.seed, step, options["prompts"]),
    )
    _run(job, course, facts)


def _run(job: Job, course: Course, facts: dict) -> None:
    model, metrics, told = train(job, course)
    if course.teacher:
        metrics["teacher/sequences"] = sum(row["train/teacher_rows"] for row in read_metrics(job.work / "metrics.jsonl"))
    policy = load_policy(job, course.student, job.options["sampling"], train=True)
    fill(policy, model)
    publish_model(job, policy, metrics, facts | told)
