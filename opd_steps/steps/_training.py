"""What the training steps share: the objective of supervised ones, and publishing the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from opd_steps.config import plugs
from opd_steps.hooks import Setting
from opd_steps.loop import milestones
from opd_steps.loop.objective import Objective
from opd_steps.models.families import described
from opd_steps.nouns.hook import Hook
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.task import Pool
from opd_steps.objectives.stream import VANILLA
from opd_steps.steps._models import load_pool
from opd_steps.store.artifacts import Job

SAMPLES = "samples.jsonl"  # what a hook wrote


def hooks_of(job: Job, policy: Policy, start: str, pool: Pool | None = None) -> tuple[Hook, ...]:
    """The hooks that the options name. `start`: the role that the policy starts from; `pool`: its train prompts, if they are there."""
    if not job.options["hooks"]:
        return ()
    held = cache(lambda split, prompts: load_pool(job, split, policy, prompts))
    pool = held("train", 0) if pool is None and "data" in job.parents and "task" in job.manifests["data"]["facts"] else pool
    setting = Setting(
        policy, pool, job.seed, job.path(start), job.parents.get("update_of"), job.work, held, job.options["steps"]
    )
    return tuple(plugs.load("hooks", item).make(setting) for item in job.options["hooks"])


def publish_model(
    job: Job, policy: Policy, metrics: dict[str, float], facts: dict, parts: Mapping[str, Policy] | None = None
) -> None:
    """Publish the model as its family writes it, metrics.jsonl, the curves' summary and the facts that later nodes ask for.

    `parts`: further learners by name; a node reads one as `node:name`, as it does the model's milestones (option `keep`).
    """
    policy.family.save(policy, job.stage)
    for name, part in (parts or {}).items():
        part.family.save(part, job.stage / "parts" / name)
    kept = milestones.kept(job.work, job.options["keep"])
    found = dict.fromkeys(kept, policy) | dict(parts or {})
    if found:
        of_parts = {name: described(part) for name, part in found.items()}
        facts = facts | {"parts": of_parts}
    if job.writes:
        milestones.publish(job.work, job.stage, kept)
        for file in ("metrics.jsonl", SAMPLES):
            if (job.work / file).exists():
                (job.stage / file).write_bytes((job.work / file).read_bytes())
    job.publish(metrics, described(policy) | facts)


def mle_objective() -> Objective:
    """Mean cross-entropy over all response tokens of the step, end token included."""
    return Objective.from_method({**VANILLA, "estimator": {"name": "mle"}, "aggregate": "token_mean"}, 0)
