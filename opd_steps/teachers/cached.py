"""A teacher that is a file: its scores travel as extra columns of the trajectory (Lightning OPD, arXiv 2604.13010)."""

from __future__ import annotations

import torch

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.nouns.dist import Recorded
from opd_steps.nouns.trajectory import Trajectory


class CachedTeacher:
    """Reads `<name>:logp` and, where stored, `<name>:topk_ids` and `<name>:topk_logp` (rollout.table.with_scores)."""

    def prepare(self, rows: Trajectory, name: str) -> Trajectory:
        return rows

    def dist(self, trajectory: Trajectory, role: str = "teacher", asks: Asks = NOTHING) -> Recorded:
        extra = trajectory.extra
        columns = [torch.cat(list(extra[key])) for c in ("logp", "topk_ids", "topk_logp") if (key := f"{role}:{c}") in extra]
        return Recorded(*columns)
