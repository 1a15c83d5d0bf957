from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class Freshness(Weight):
    """ReLU(f - xi), f = exp(-alpha sqrt(D)) / (age + 1): trust in rollouts of older weights (f-OPD, arXiv 2605.17862).

    age  optimizer steps since the row's weights
    D    drift of the student on the row, KL(student || sampler), estimated on its tokens, which are the sampler's: mean_t of
         rho log rho - (rho - 1) with rho = q(a) / sampler(a), never negative and unbiased
    `lag_only` leaves the drift out (the paper's ablation). The paper does not disclose alpha and xi. Its second term, the
    drift of the teacher's context, is 0 here: contexts are made anew at each use.
    """

    ROWS: ClassVar[str] = "sampled"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("freshness", "drift", "aligned")

    alpha: Annotated[float, "at least 0"] = 1.0
    xi: Annotated[float, "at least 0, below 1"] = 0.05
    lag_only: bool = False

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        log_rho_N = (q.logp(evidence.action_N) - evidence.sampler_logp_N).clamp(-20, 20)
        return {"drift": log_rho_N.exp() * log_rho_N - torch.expm1(log_rho_N)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        drift_B = rows.mean_B(found["drift"])
        age_B = moment.step - 1 - rows.version_B
        trust_B = torch.zeros(len(rows)) if self.lag_only else -self.alpha * drift_B.clamp(min=0).sqrt()
        f_B = trust_B.exp() / (age_B + 1)
        figures = {
            "freshness": float(f_B.mean()),
            "drift": float(drift_B.mean()),
            "aligned": float((f_B > self.xi).float().mean()),
        }
        return (f_B - self.xi).clamp(min=0)[rows.owner_N], figures
