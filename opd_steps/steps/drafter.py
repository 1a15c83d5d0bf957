"""The drafter step: a fresh drafter that stands on its target."""

from __future__ import annotations

from opd_steps.config import plugs
from opd_steps.models.bases import Base
from opd_steps.models.families import described
from opd_steps.models.numerics import FP32
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, weights_id
from opd_steps.store.artifacts import Job


def run(job: Job) -> None:
    """Publish it: its own weights, and by which node and weights the target is known."""
    base = Base(str(job.parents["target"].relative_to(job.results)), job.parts["target"], weights_id(job, "target"))
    family = plugs.load("models/families", job.options["family"])
    policy = family.fresh(load_policy(job, "target", numerics=FP32), base, job.seed)
    family.save(policy, job.stage)
    job.publish({}, described(policy) | {"parameters": sum(p.numel() for p in policy.model.parameters())})


if __name__ == "__main__":
    main(run)
