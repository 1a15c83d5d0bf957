from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.judges import Judge
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.outcome import group_advantage
from opd_steps.tasks.segments import in_segments


@dataclass(frozen=True)
class Discriminator(Judge):
    """The alignment advantage of PRISM (arXiv 2604.28123): a critic scores both segments of each sample, and within a prompt's group

        A = sum_k shares_k GN(D_k) - penalty 1[format invalid],   GN(x) = (x - mean x) / (std x + 1e-6)

    over group: an invalid row counts as the least valid score of its group less 1, as released; over valid: mean and std are those of
    valid rows, and an invalid one has the penalty alone. Rewards stay the task's. valid: share of rows that have the format.
    """

    LEARNER: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("valid", "score_work", "score_answer")

    learner: str = "critic"
    mark: str = "####"
    in_prompt: bool = False  # a row's mark is what the pattern `mark` finds in its prompt
    shares: Annotated[list[float], "0 to 1"] = field(default_factory=lambda: [0.5, 0.5])
    penalty: Annotated[float, "at least 0"] = 1.5
    over: Literal["group", "valid"] = "group"

    @torch.no_grad()
    def judge(self, rows: Trajectory, bench: Bench) -> tuple[Trajectory, dict[str, float]]:
        said = in_segments(rows, bench.pool, self.mark, self.in_prompt)
        valid_B = torch.tensor([each is not None for each in said])
        score_BS = torch.zeros(len(rows), 2)
        if valid_B.any():
            score_BS[valid_B] = bench.learners[self.learner].scores([each for each in said if each])[0].float().cpu()
        advantage_B = self.advantage_B(score_BS, valid_B, rows.prompt_B)
        work, answer = (score_BS[valid_B].mean(0) if valid_B.any() else torch.zeros(2)).tolist()
        figures = {"valid": float(valid_B.float().mean()), "score_work": work, "score_answer": answer}
        return rows.with_columns(extra={**rows.extra, "advantage": advantage_B.tolist()}), figures

    def advantage_B(self, score_BS: Tensor, valid_B: Tensor, prompt_B: Tensor) -> Tensor:
        """A of each row, [B]."""
        total_B = -self.penalty * (~valid_B).float()
        for share, score_B in zip(self.shares, score_BS.T, strict=True):
            if self.over == "valid":
                total_B[valid_B] += share * group_advantage(score_B[valid_B], prompt_B[valid_B])
            else:
                total_B += share * group_advantage(_filled(score_B, valid_B, prompt_B), prompt_B)
        return total_B


def _filled(score_B: Tensor, valid_B: Tensor, prompt_B: Tensor) -> Tensor:
    """Invalid rows at the least valid score of their group less 1; a group without any valid row at 0."""
    _, index_B = prompt_B.unique(return_inverse=True)
    least_G = torch.full((int(index_B.max()) + 1,), torch.inf)
    least_G = least_G.scatter_reduce(0, index_B[valid_B], score_B[valid_B], "amin")
    return score_B.where(valid_B, (least_G - 1).nan_to_num(posinf=0.0)[index_B])
