"""Supervised fine-tuning: the cold start on a teacher's traces, or on a data set's solutions."""

from __future__ import annotations

import torch

from opd_steps.config import plugs
from opd_steps.loop.batches import fixed_rows
from opd_steps.loop.learner import Learner
from opd_steps.loop.train import train
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.table import read_rollouts
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool, require_made_with
from opd_steps.steps._training import hooks_of, mle_objective, publish_model
from opd_steps.store.artifacts import Job


def run(job: Job) -> None:
    """Cross-entropy on response tokens (or all), mean over the step's tokens. Records which teacher wrote the traces."""
    options, source = job.options, job.manifests["data"]
    policy = load_policy(job, "student", train=True)
    traces = source["kind"] == "rollout"
    rows = trace_rows(job, policy) if traces else load_pool(job, "train", policy).texts(options["column"], options["loss_on"])
    learner = Learner(policy, mle_objective(), gradient=plugs.load("gradients", options["gradient"]))
    make_batch = lambda step: fixed_rows(rows, job.seed, step, options["batch"])
    metrics = train(job, learner, make_batch, hooks_of(job, policy, "student"), dropout=True)
    author = source["facts"].get("policy") if traces else None
    publish_model(job, policy, metrics, {"traces_from": author or job.manifests["student"]["facts"].get("traces_from")})


def trace_rows(job: Job, policy: Policy) -> Trajectory:
    """The rollouts of a parent; their decisions are trained on as they are, so they must be of the student's language."""
    require_made_with(policy, job, "data", "student")
    rows = read_rollouts(job.path("data"))
    return whole(rows) if job.options["loss_on"] == "all" else rows


def whole(rows: Trajectory) -> Trajectory:
    """Prompts as decisions, all but their first token."""
    actions = [torch.cat([torch.tensor(c[1:], dtype=a.dtype), a]) for c, a in zip(rows.contexts, rows.actions, strict=True)]
    later = lambda heard, context: heard + torch.tensor([len(context) - 1, 0])
    heard = rows.heard and [later(h, c) for h, c in zip(rows.heard, rows.contexts, strict=True)]
    return Trajectory([c[:1] for c in rows.contexts], actions, rows.prompt_B, heard=heard)


if __name__ == "__main__":
    main(run)
