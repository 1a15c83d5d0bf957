"""A teacher that is a file: its scores travel as extra columns of the trajectory (Lightning OPD, arXiv 2604.13010)."""

from __future__ import annotations

import torch

from opd_steps.nouns.dist import Recorded
from opd_steps.nouns.trajectory import Trajectory


class CachedTeacher:
    """Reads `teacher_logp` and, where stored, `teacher_topk_ids` and `teacher_topk_logp` (rollout.table.with_scores)."""

    def dist(self, trajectory: Trajectory, role: str = "teacher") -> Recorded:
        extra = trajectory.extra
        columns = [torch.cat(list(extra[k])) for k in ("teacher_logp", "teacher_topk_ids", "teacher_topk_logp") if k in extra]
        return Recorded(*columns)
