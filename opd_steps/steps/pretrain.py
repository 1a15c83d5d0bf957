"""Pretraining: next-token prediction on the task's corpus (prompt and noisy solution)."""

from __future__ import annotations

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.loop.batches import fixed_rows
from opd_steps.loop.learner import Learner
from opd_steps.loop.train import train
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy
from opd_steps.steps._training import mle_objective, publish_model, supervised_rows
from opd_steps.store.artifacts import Job
from opd_steps.tasks.prompts import PromptPool
from opd_steps.tasks.render import response_ids


def run(job: Job) -> None:
    """Train `model` on the column of the train split; loss on every token but the first, or on the response alone.

    The corpus stands behind the prompt that it was written for, with the attempts that the source shows.
    """
    options = job.options
    policy = load_policy(job, "model", train=True)
    pool = PromptPool.load(job.path("data"), "train", policy.tokenizer)
    if options["column"] not in pool.rows[0]:
        raise UserError(str(job.path("data")), f"no column '{options['column']}'; found {', '.join(pool.rows[0])}")
    pairs = []
    contexts = pool.contexts(range(len(pool)), corpus=options["column"] == "corpus")
    for context, row in zip(contexts, pool.rows, strict=True):
        response = response_ids(policy.tokenizer, row[options["column"]])
        whole = options["loss_on"] == "all"
        pairs.append((context[:1], context[1:] + response) if whole else (context, response))
    rows = supervised_rows(pairs)
    learner = Learner(policy, mle_objective(), gradient=plugs.load("gradients", options["gradient"]))
    metrics = train(job, learner, lambda step: fixed_rows(rows, job.seed, step, options["batch"]), dropout=True)
    publish_model(job, policy, metrics, {"traces_from": job.manifests["model"]["facts"].get("traces_from")})


if __name__ == "__main__":
    main(run)
