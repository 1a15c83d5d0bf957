"""What a step trains on: rows of a data set, cached rollouts, or fresh samples of a policy. All are functions of the step."""

from __future__ import annotations

import torch

from opd_steps.errors import NotFinite
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import epoch_order
from opd_steps.tasks.prompts import PromptPool, sample_seeds


def fixed_rows(rows: Trajectory, seed: int, step: int, count: int) -> Batch:
    """`count` rows of a fixed table, in shuffled epochs."""
    picks = epoch_order(len(rows), (step - 1) * count, count, seed, "rows")
    return Batch(rows.rows(picks))


def sampled_rows(
    policy: Policy, pool: PromptPool, picks: list[int], n: int, step: int, *seed_parts: object, version: int | None = None
) -> Batch:
    """`n` fresh samples of every picked prompt with their rewards; `version` (else step - 1) optimizer steps made the weights.

    Raises NotFinite for a reward that is no number.
    """
    prompts, seeds = sample_seeds(picks, n, *seed_parts, step)
    rows = policy.rollout(pool.contexts(prompts), prompts, seeds, step - 1 if version is None else version)
    rows = rows.with_columns(reward_B=torch.tensor(pool.rewards(rows)))
    if not rows.reward_B.isfinite().all():
        raise NotFinite("verifier", f"it gave {float(rows.reward_B[~rows.reward_B.isfinite()][0])} for a completion")
    return Batch(rows, metrics=rollout_metrics(rows))


def unsampled(rows: Trajectory, version: int) -> Trajectory:
    """Columns that sampled rows have: log-probs and rewards nan, for nobody sampled or judged these."""
    return rows.with_columns(
        logp=[torch.full((len(a),), torch.nan) for a in rows.actions],
        reward_B=torch.full((len(rows),), torch.nan),
        version_B=torch.full((len(rows),), version),
        ended_B=torch.ones(len(rows), dtype=torch.bool),
    )


def rollout_metrics(rows: Trajectory) -> dict[str, float]:
    """Mean reward and length (tokens, end token included), and the share of rows cut at their maximum length."""
    found = {"length": float(rows.length_B.float().mean())}
    if rows.reward_B is not None:
        found["reward"] = float(rows.reward_B.float().mean())
    if rows.ended_B is not None:
        found["truncated"] = float((~rows.ended_B).float().mean())
    return found
