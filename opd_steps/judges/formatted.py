from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch

from opd_steps.judges import Judge
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.segments import in_segments


@dataclass(frozen=True)
class Formatted(Judge):
    """(1 - share) reward + share 1[ two segments, and ended ]: PRISM's reward of its RLVR stage (arXiv 2604.28123)."""

    mark: str = "####"
    in_prompt: bool = False  # a row's mark is what the pattern `mark` finds in its prompt
    share: Annotated[float, "0 to 1"] = 0.2

    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        valid = [float(each is not None) for each in in_segments(rows, bench.pool, self.mark, self.in_prompt)]
        return rows.with_columns(reward_B=(1 - self.share) * rows.reward_B + self.share * torch.tensor(valid)), {}
