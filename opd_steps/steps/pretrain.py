"""Pretraining: next-token prediction on the task's corpus (prompt and noisy solution)."""

from __future__ import annotations

from opd_steps.config import plugs
from opd_steps.loop.batches import fixed_rows
from opd_steps.loop.learner import Learner
from opd_steps.loop.train import train
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool
from opd_steps.steps._training import hooks_of, mle_objective, publish_model
from opd_steps.store.artifacts import Job


def run(job: Job) -> None:
    """Train `model` on the column of the train split; loss on every token but the first, or on the response alone.

    The corpus stands behind the prompt that it was written for, with the attempts that the source shows.
    """
    options = job.options
    policy = load_policy(job, "model", train=True)
    rows = load_pool(job, "train", policy).texts(options["column"], options["loss_on"], corpus=options["column"] == "corpus")
    learner = Learner(policy, mle_objective(), gradient=plugs.load("gradients", options["gradient"]))
    make_batch = lambda step: fixed_rows(rows, job.seed, step, options["batch"])
    metrics = train(job, learner, make_batch, hooks_of(job, policy, "model"), dropout=True)
    publish_model(job, policy, metrics, {"traces_from": job.manifests["model"]["facts"].get("traces_from")})


if __name__ == "__main__":
    main(run)
