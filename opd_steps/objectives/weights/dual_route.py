from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight

TIE = 1e-6  # nats: gaps that are all alike are no high ones


@dataclass(frozen=True)
class DualRoute(Weight):
    """1 on the tokens of one of four regimes, 0 on the others (DOPD's router, arXiv 2606.30626). Every token is in exactly one.

    q_S, q_T: the sampled token's probability under the privileged student and the privileged teacher; A = |log q_T - log q_S|.
        LH  A <  mean A, q_S + q_T >= mean q_S + mean q_T          HT  A >= mean A, q_T >= q_S
        LL  A <  mean A, q_S + q_T <  mean q_S + mean q_T          HS  A >= mean A, q_T <  q_S
    Means over the batch's response tokens; that of A without its largest `outliers`, plus 1e-6, so that ties are low. A weight
    and not a mask: the source divides by |y| whatever the regime. share: of the tokens.
    """

    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    OTHERS: ClassVar[dict] = {"student": "sampled", "teacher": "sampled"}
    METRICS: ClassVar[tuple[str, ...]] = ("share", "privilege_gap")

    student: str  # the name of the privileged student among the teachers
    teacher: str
    regime: Literal["LH", "LL", "HT", "HS"] = "LH"
    outliers: Annotated[float, "at least 0, below 1"] = 0.05

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        of = lambda name: evidence.others[name].logp(evidence.action_N)
        return {"student": of(self.student), "teacher": of(self.teacher)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        logs_N, logt_N = found["student"], found["teacher"]
        gap_N, both_N = (logt_N - logs_N).abs(), logs_N.exp() + logt_N.exp()
        inner = gap_N.sort().values[: math.ceil(round((1 - self.outliers) * len(gap_N), 9))].mean()
        high_N, sure_N, teacher_N = gap_N >= inner + TIE, both_N >= both_N.mean(), logt_N >= logs_N
        mask_N = {
            "LH": ~high_N & sure_N,
            "LL": ~high_N & ~sure_N,
            "HT": high_N & teacher_N,
            "HS": high_N & ~teacher_N,
        }[self.regime]
        weight_N = mask_N.to(gap_N.dtype)
        return weight_N, {"share": float(weight_N.mean()), "privilege_gap": float(gap_N.mean())}
