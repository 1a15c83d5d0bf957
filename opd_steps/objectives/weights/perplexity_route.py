from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class PerplexityRoute(Weight):
    """Rows of one outcome, weighted within their prompt's group by perplexity; sums to n over the n such rows (SCOPE, arXiv 2604.10688).

    correct   weight proportional to PPL_student^(1/tau): hard-won successes weigh more (with the estimator mle)
    wrong     weight proportional to PPL_teacher^(-1/tau): trust the teacher where it is sure
    PPL = exp(-mean_t log prob of the row's tokens); rows of the other outcome weigh 0.
    """

    TEACHER: ClassVar[str] = "sampled"
    ROWS: ClassVar[str] = "sampled"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True

    which: Literal["correct", "wrong"] = "correct"
    tau: Annotated[float, "above 0"] = 1.0

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        by = q if self.which == "correct" else evidence.teacher
        return {"logp": by.logp(evidence.action_N)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        mean_B = rows.mean_B(found["logp"])
        log_weight_B = (-mean_B if self.which == "correct" else mean_B) / self.tau
        chosen_B = (rows.reward_B >= 0.5) == (self.which == "correct")
        weight_B = torch.zeros(len(rows))
        for prompt in rows.prompt_B[chosen_B].unique().tolist():
            group = ((rows.prompt_B == prompt) & chosen_B).nonzero()[:, 0]
            weight_B[group] = torch.softmax(log_weight_B[group], 0) * len(group)
        return weight_B[rows.owner_N], {}
