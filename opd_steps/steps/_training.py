"""What the training steps share: the objective and the rows of supervised ones, and publishing the trained model."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from opd_steps.errors import UserError
from opd_steps.loop.objective import Objective
from opd_steps.models.families import named
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import VANILLA
from opd_steps.store.artifacts import Job
from opd_steps.tasks.prompts import PromptPool
from opd_steps.tasks.render import response_ids


def publish_model(
    job: Job, policy: Policy, metrics: dict[str, float], facts: dict, parts: Mapping[str, Policy] | None = None
) -> None:
    """Publish the model as its family writes it, metrics.jsonl, the curves' summary and the facts that later nodes ask for.

    `parts`: further learners by name; a node reads one as `node:name`.
    """
    policy.family.save(policy, job.stage)
    for name, part in (parts or {}).items():
        part.family.save(part, job.stage / "parts" / name)
    if parts:
        of_parts = {name: {"family": named(part.family), **part.family.identity(part)} for name, part in parts.items()}
        facts = facts | {"parts": of_parts}
    if job.writes:
        (job.stage / "metrics.jsonl").write_bytes((job.work / "metrics.jsonl").read_bytes())
    job.publish(metrics, {"family": named(policy.family), **policy.family.identity(policy), **facts})


def mle_objective() -> Objective:
    """Mean cross-entropy over all response tokens of the step, end token included."""
    return Objective.from_method({**VANILLA, "estimator": {"name": "mle"}, "aggregate": "token_mean"}, 0)


def supervised_rows(pairs: list[tuple[list[int], list[int]]]) -> Trajectory:
    """(context ids, response ids) pairs as a trajectory that nobody sampled."""
    contexts, responses = zip(*pairs, strict=True)
    return Trajectory(list(contexts), [torch.tensor(r) for r in responses], torch.arange(len(pairs)))


def solution_rows(job: Job, tokenizer, column: str) -> Trajectory:
    """Prompts and a text column of the train split."""
    pool = PromptPool.load(job.path("data"), "train", tokenizer)
    if column not in pool.rows[0]:
        raise UserError(str(job.path("data")), f"no column '{column}'; found {', '.join(pool.rows[0])}")
    contexts = pool.contexts(range(len(pool)))
    return supervised_rows([(c, response_ids(tokenizer, r[column])) for c, r in zip(contexts, pool.rows, strict=True)])
