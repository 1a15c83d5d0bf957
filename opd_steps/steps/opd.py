"""On-policy distillation: the student samples, teachers score every token, the method's row says how that becomes a gradient."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from opd_steps.config import plugs
from opd_steps.config.teachers import Teaching, named, starts
from opd_steps.config.teachers import learners as learners_of
from opd_steps.errors import UserError
from opd_steps.loop.conductor import Conductor
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.loop.tokens import TokenLog
from opd_steps.loop.train import train
from opd_steps.nouns.policy import Policy
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool, weights_id
from opd_steps.steps._rows import Rows
from opd_steps.steps._teachers import Staff
from opd_steps.steps._training import hooks_of, publish_model
from opd_steps.store.artifacts import Job
from opd_steps.store.metrics import read_metrics


def run(job: Job) -> None:
    """Build learners, teachers, the rows of a step and what moves the options; then the one loop."""
    options, sampling = job.options, job.options["sampling"]
    if options.get("trainer", {}).get("name") == "verl":
        from opd_steps.steps import _verl  # code of such nodes alone (graph/code.py)

        teachings = named(options, job.parents)
        return _verl.opd(job, teachings, _facts(job, teachings))
    batch = options["engine"]["batch"]
    policies = {name: load_policy(job, role, sampling, batch, train=True) for name, role in starts(options).items()}
    objectives = {name: Objective.from_method(method, sampling["max_new_tokens"]) for name, method in learners_of(options)}
    pool = load_pool(job, "train", policies[""])
    staff = Staff(job, policies, pool).hire()
    controllers = [plugs.load("schedules", item) for item in options["controllers"]]
    conductor = Conductor(options, controllers, objectives, [*policies.values(), *staff.policies.values()])
    rows, is_cached = Rows(job, staff, pool, conductor), any(t.scores for t in staff.teachings.values())
    if is_cached:
        check_consistency(job, [t.scores for t in staff.teachings.values() if t.scores])
    make_batch, hooks = rows.cached() if is_cached else rows.live()
    hooks += [*staff.hooks, *hooks_of(job, policies[""], "student", pool)]
    learners = {name: Learner(policies[name], objectives[name], staff.of(name), **_own(options, name)) for name in policies}
    tokens = learners[""].tokens = _token_log(job, policies[""])
    metrics = train(job, learners, make_batch, (*hooks, conductor))
    if metrics:  # on the rank that writes
        if tokens:
            tokens.publish(job.stage)
        metrics["teacher/sequences"] = _sequences(job, [f"{learner.curve}teacher_rows" for learner in learners.values()])
    publish_model(job, policies[""], metrics, _facts(job, staff.teachings), {name: p for name, p in policies.items() if name})


def _own(options: dict, name: str) -> dict:
    """Optimizer and gradient of a learner."""
    own = options["learners"][name] if name else options
    return {"optim": own["optim"], "gradient": plugs.load("gradients", own["gradient"])}


def _token_log(job: Job, policy: Policy) -> TokenLog | None:
    return TokenLog(job.work, job.options["steps"], policy.tokenizer) if policy.family.TEXT else None


def _sequences(job: Job, curves: list[str]) -> float:
    """How many sequences teachers' models have read in all steps."""
    return sum(row.get(curve, 0.0) for row in read_metrics(job.work / "metrics.jsonl") for curve in curves)


def _facts(job: Job, teachings: Mapping[str, Teaching]) -> dict:
    """Who taught, by weights' digest, and who wrote the traces that the student comes from."""
    found = {}
    for name, teaching in teachings.items():
        if teaching.scores:
            found[name] = job.manifests[teaching.scores]["facts"]["teacher"]
        elif teaching.model:
            found[name] = weights_id(job, teaching.model)
    traces = job.manifests["student"]["facts"].get("traces_from")
    return {"teacher": found.pop("teacher", None), "teachers": found, "traces_from": traces}


def check_consistency(job: Job, scores: list[str]) -> None:
    """Teacher consistency (arXiv 2604.13010): the SFT traces must come from the teacher that wrote the scores, or from one of several.

    `scores`: roles of the tables.
    """
    if job.manifests["student"]["facts"].get("traces_from") in [job.manifests[role]["facts"]["teacher"] for role in scores]:
        return
    message = "the student's SFT traces come from another teacher than the scores (or from none)"
    if job.options["teacher_consistency"] == "stop":
        raise UserError(str(job.path(scores[0])), message + "; set teacher_consistency: warn to go on")
    print(f"warning: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(run)
