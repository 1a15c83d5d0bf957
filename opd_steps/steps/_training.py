"""What the training steps share: the objective of supervised ones, and publishing the trained model."""

from __future__ import annotations

from collections.abc import Mapping

from opd_steps.loop import milestones
from opd_steps.loop.objective import Objective
from opd_steps.models.families import described
from opd_steps.nouns.policy import Policy
from opd_steps.objectives.stream import VANILLA
from opd_steps.store.artifacts import Job


def publish_model(
    job: Job, policy: Policy, metrics: dict[str, float], facts: dict, parts: Mapping[str, Policy] | None = None
) -> None:
    """Publish the model as its family writes it, metrics.jsonl, the curves' summary and the facts that later nodes ask for.

    `parts`: further learners by name; a node reads one as `node:name`, as it does the model's milestones (option `keep`).
    """
    policy.family.save(policy, job.stage)
    for name, part in (parts or {}).items():
        part.family.save(part, job.stage / "parts" / name)
    found = dict.fromkeys(job.options["keep"], policy) | dict(parts or {})
    if found:
        of_parts = {name: described(part) for name, part in found.items()}
        facts = facts | {"parts": of_parts}
    if job.writes:
        milestones.publish(job.work, job.stage, job.options["keep"])
        (job.stage / "metrics.jsonl").write_bytes((job.work / "metrics.jsonl").read_bytes())
    job.publish(metrics, described(policy) | facts)


def mle_objective() -> Objective:
    """Mean cross-entropy over all response tokens of the step, end token included."""
    return Objective.from_method({**VANILLA, "estimator": {"name": "mle"}, "aggregate": "token_mean"}, 0)
