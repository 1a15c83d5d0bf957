"""Outcome advantages of a step's rows that somebody else sampled: those of an opd method, or of an rl node's groups."""

from __future__ import annotations

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.outcome import grpo_B, outcome_B, silent_groups, trained_on


def outcome(kind: str, rows: Trajectory, options: dict) -> tuple[Tensor | None, dict[str, float]]:
    """(advantage of each judged row [B], curves). `options`: an rl node's; of an opd node its method where a term asks for outcomes,
    else empty, and there is none."""
    if kind == "opd":
        return (outcome_B(rows, options), {}) if options else (None, {})
    group_B = torch.unique(rows.prompt_B, return_inverse=True)[1]
    silent = group_B[silent_groups(rows.reward_B, group_B)].unique()
    told = {"silent_groups": len(silent) / len(group_B.unique()), "refills": 0.0}
    return grpo_B(rows, group_B, options), told | trained_on(rows, group_B)
