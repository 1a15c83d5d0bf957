from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class MarginShift(Transform):
    """Per prompt, correct rows are lifted over wrong ones until their scores are `delta` apart (Uni-OPD, arXiv 2605.03677).

    Score of a row G = mean_t of its log-ratios. gap = mean(G | correct) - mean(G | wrong), or min(G | correct) - max(G | wrong).
    If gap < delta, shift = delta - gap is added to every token of correct rows (correct_up), taken from every token of wrong
    ones (wrong_down), or half of each (both). Differences within a row stay; groups of one outcome stay as they are.
    """

    TEACHER: ClassVar[str] = "sampled"
    ROWS: ClassVar[str] = "groups"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("inverted", "inverted_after")

    delta: Annotated[float, "at least 0"] = 0.4
    gap: Literal["mean", "minmax"] = "mean"
    direction: Literal["both", "correct_up", "wrong_down"] = "both"

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        return {"r": evidence.log_ratio(q)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        score_B = rows.mean_B(found["r"])
        correct_B, shift_B = rows.reward_B >= 0.5, torch.zeros(len(rows))
        up, down = {"both": (0.5, 0.5), "correct_up": (1.0, 0.0), "wrong_down": (0.0, 1.0)}[self.direction]
        pairs, before, after = 0, 0, 0
        for prompt in rows.prompt_B.unique().tolist():
            group_B = rows.prompt_B == prompt
            right_B, wrong_B = group_B & correct_B, group_B & ~correct_B
            if not right_B.any() or not wrong_B.any():
                continue
            right, wrong = score_B[right_B], score_B[wrong_B]
            gap = float(right.mean() - wrong.mean()) if self.gap == "mean" else float(right.min() - wrong.max())
            shift = max(0.0, self.delta - gap)
            shift_B[right_B], shift_B[wrong_B] = up * shift, -down * shift
            difference = right[:, None] - wrong[None, :]
            pairs += difference.numel()
            before += int((difference < 0).sum())
            after += int((difference + shift < 0).sum())
        figures = {"inverted": before / pairs, "inverted_after": after / pairs} if pairs else {}
        return shift_B[rows.owner_N], figures
