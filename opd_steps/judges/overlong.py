from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from opd_steps.judges import Judge
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.outcome import soft_overlong


@dataclass(frozen=True)
class Overlong(Judge):
    """reward + the soft length penalty: 0 up to max_new_tokens - buffer, linear to -1 at max_new_tokens (DAPO, arXiv 2503.14476)."""

    buffer: Annotated[int, "at least 1"] = 16  # tokens

    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        reward_B = rows.reward_B + soft_overlong(rows.length_B, bench.window, self.buffer)
        return rows.with_columns(reward_B=reward_B), {}
