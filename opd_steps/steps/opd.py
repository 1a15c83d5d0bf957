"""On-policy distillation: the student samples, the teacher scores every token, the method's row says how that becomes a gradient."""

from __future__ import annotations

import sys

from opd_steps.artifacts import Job
from opd_steps.errors import UserError
from opd_steps.loop.batches import fixed_rows, rollout_metrics, sampled_rows
from opd_steps.loop.objective import Objective
from opd_steps.loop.train import Batch, train
from opd_steps.rollout.table import read_rollouts, with_scores
from opd_steps.seeds import rng
from opd_steps.steps._main import main
from opd_steps.steps._models import frozen_copy, load_policy, publish_model, require_same_tokenizer, weights_id
from opd_steps.steps.sft import solution_rows
from opd_steps.tasks.prompts import PromptPool
from opd_steps.teachers.cached import CachedTeacher


def run(job: Job) -> None:
    """Build student, teacher and reference, the source of prefixes and the objective; then the one loop."""
    options, method, sampling = job.options, job.options["method"], job.options["sampling"]
    objective = Objective.from_method(method, sampling["max_new_tokens"])
    student = load_policy(job, "student", sampling, options["engine"]["batch"], train=True)
    reference = frozen_copy(student) if objective.needs("reference") != "none" else None
    if "scores" in job.parents:
        check_consistency(job)
        teacher, make_batch = CachedTeacher(), cached_batches(job)
    else:
        teacher = load_policy(job, "teacher", sampling, options["engine"]["batch"])
        require_same_tokenizer(student, teacher, job, "teacher")
        make_batch = live_batches(job, student, teacher)
    metrics = train(job, student, make_batch, objective, teacher, reference)
    live = job.manifests.get("teacher")
    facts = {"teacher": weights_id(live) if live else job.manifests["scores"]["facts"]["teacher"]}
    publish_model(job, student, metrics, facts | {"traces_from": job.manifests["student"]["facts"].get("traces_from")})


def live_batches(job: Job, student, teacher):
    """Prefixes by the student, the teacher, the data set, or a mixture that draws one of student and data set per step."""
    options, prefix, n = job.options, job.options["method"]["prefix"], job.options["sampling"]["n"]
    pool = PromptPool.load(job.path("data"), "train", student.tokenizer)
    fixed = solution_rows(job, student.tokenizer, prefix["column"]) if prefix["source"] in ("dataset", "mixture") else None

    def make_batch(step: int) -> Batch:
        source = prefix["source"]
        if source == "mixture":
            source = "student" if rng(job.seed, "mixture", step).random() < prefix["student_share"] else "dataset"
        if source == "dataset":
            batch = fixed_rows(fixed, job.seed, step, options["prompts"] * n)
            return Batch(batch.rows, metrics=rollout_metrics(batch.rows))
        sampler = student if source == "student" else teacher
        return sampled_rows(sampler, pool, pool.pick(job.seed, step, options["prompts"]), n, step, job.seed, "rollout")

    return make_batch


def cached_batches(job: Job):
    """Rollouts and scores from files: no live teacher, no sampler."""
    rollouts = job.results / job.manifests["scores"]["parents"]["rollouts"]["path"]
    rows = with_scores(read_rollouts(rollouts), job.path("scores"))
    count = job.options["prompts"] * job.options["sampling"]["n"]

    def make_batch(step: int) -> Batch:
        batch = fixed_rows(rows, job.seed, step, count)
        return Batch(batch.rows, metrics=rollout_metrics(batch.rows))

    return make_batch


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
