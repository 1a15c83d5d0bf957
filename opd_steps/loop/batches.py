"""What a step trains on: rows of a data set, cached rollouts, or fresh samples of a policy. All are functions of the step."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

import torch

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.task import Pool, Texts
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import epoch_order, sample_seeds

if TYPE_CHECKING:
    from opd_steps.nouns.draw import Draw


def fixed_rows(rows: Texts, seed: int, step: int, count: int) -> Batch:
    """`count` rows of a fixed table, in shuffled epochs."""
    picks = epoch_order(len(rows), (step - 1) * count, count, seed, "rows")
    return Batch(rows.rows(picks))


def sampled_rows(
    policy: Policy, pool: Pool, picks: list[int], n: int, step: int, *seed_parts: object, version: int | None = None
) -> Batch:
    """`n` judged samples of every picked prompt; `version` (else step - 1) optimizer steps made the weights."""
    prompts, seeds = sample_seeds(picks, n, *seed_parts, step)
    rows = pool.play(policy, prompts, seeds, step - 1 if version is None else version)
    return Batch(rows, metrics=rollout_metrics(rows))


def unsampled(rows: Trajectory, version: int) -> Trajectory:
    """Columns that sampled rows have: log-probs and rewards nan, for nobody sampled or judged these."""
    return rows.with_columns(
        logp=[torch.full((len(a),), torch.nan) for a in rows.actions],
        reward_B=torch.full((len(rows),), torch.nan),
        version_B=torch.full((len(rows),), version),
        ended_B=torch.ones(len(rows), dtype=torch.bool),
    )


def written_rows(text: Texts, draw: Draw) -> Batch:
    """As many rows of a text column as a step has samples. Nobody sampled or judged them."""
    return unjudged(unsampled(fixed_rows(text, draw.seed, draw.step, len(draw.picks) * draw.n).rows, draw.version))


def unjudged(rows: Trajectory) -> Batch:
    """Rows of which not all were judged: their mean reward says nothing."""
    return Batch(rows, metrics=rollout_metrics(rows.with_columns(reward_B=None)))


def told_apart(rows: Trajectory, pool: Pool, column: str, of: Container[str]) -> dict[str, float]:
    """The figures `of` a step that are means over rows, of the rows of each value that a column of the data has: `reward/maths`. {} for
    column ""."""
    found: dict[str, list[int]] = {}
    for i, prompt in enumerate(rows.prompt_B.tolist() if column else ()):
        found.setdefault(str(pool.column(column, prompt)), []).append(i)
    parts = {value: rollout_metrics(rows.rows(mine)) for value, mine in sorted(found.items())}
    return {f"{name}/{value}": x for value, figures in parts.items() for name, x in figures.items() if name in of}


def rollout_metrics(rows: Trajectory) -> dict[str, float]:
    """Mean reward and length (tokens, end token included), and the share of rows cut at their maximum length."""
    found = {"length": float(rows.length_B.float().mean())}
    if rows.reward_B is not None:
        found["reward"] = float(rows.reward_B.float().mean())
    if rows.ended_B is not None:
        found["truncated"] = float((~rows.ended_B).float().mean())
    return found
