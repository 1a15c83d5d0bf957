"""Analysis of finished models: read-only measurements, so that a paper's claims about why can be checked."""

from __future__ import annotations

import torch

from opd_steps.analyses._context import Context
from opd_steps.config import plugs
from opd_steps.graph.kinds.analyze import ANALYSES, METHODS, MODELS
from opd_steps.rollout.table import read_texts
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool, require_same, weights_id
from opd_steps.store.artifacts import Job


@torch.no_grad()
def run(job: Job) -> None:
    """Load the roles that the analysis reads, measure, publish; a figure that is not defined here (None) is left out of the metrics."""
    options = job.options
    analysis = plugs.load(ANALYSES, options["analysis"])
    sampling = {"temperature": options["temperature"], "top_p": 1.0, "max_new_tokens": options["max_new_tokens"]}
    roles = ["model", *(role for role in MODELS if role in job.parents)]
    policies = {role: load_policy(job, role, sampling, options["batch"]) for role in roles}
    pool = None
    if "data" in job.parents:  # it looks at tokens, not at weights alone
        for role in roles[1:]:
            require_same(policies["model"], policies[role], job, role)
        pool = load_pool(job, options["split"], policies["model"], options["limit"])
    answers = read_texts(job.path("answers")) if "answers" in job.parents else {}
    found = analysis.measure(Context(policies, pool, job.seed, options[METHODS], answers))
    facts = {"models": {role: weights_id(job, role) for role in roles}, "n_prompts": len(pool) if pool else 0}
    job.publish({name: value for name, value in found.items() if value is not None}, facts)


if __name__ == "__main__":
    main(run)
