from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.transforms import Transform


@dataclass(frozen=True)
class SpanSum(Transform):
    """Every token of a span carries the span's log-ratio, sum_span (log p - log q); tokens without a span carry 0 (SimpleOPD).

    That is the policy gradient with spans of text as actions. Needs the teacher source `spans`; for the log-ratio signal
    without a baseline. aligned: share of tokens in a span.
    """

    TEACHER: ClassVar[str] = "sampled"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    LOG_RATIO: ClassVar[bool] = True
    SOURCE: ClassVar[str] = "spans"
    METRICS: ClassVar[tuple[str, ...]] = ("aligned",)

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        return {"r": evidence.log_ratio(q)}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        shifts = []
        for r_T, span_T in zip(found["r"].split(rows.length_B.tolist()), rows.extra[f"{moment.against}:span"], strict=True):
            place_T = torch.where(span_T < 0, len(r_T), span_T)
            total_T = torch.zeros(len(r_T) + 1).index_add(0, place_T, r_T)[place_T]
            shifts.append(torch.where(span_T < 0, 0.0, total_T) - r_T)
        aligned = torch.cat(list(rows.extra[f"{moment.against}:span"])) >= 0
        return torch.cat(shifts), {"aligned": float(aligned.float().mean())}
