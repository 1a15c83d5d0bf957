from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.supports._selected import among, topk
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class OverlapDecay(Weight):
    """L_t = R_t + base, R_t = clip(1 - drop C_t, 0, 1), C_t the number of bad tokens up to t (Prune-OPD, arXiv 2605.07804).

    A token is bad, by the event `overlap`, where |topk of student and teacher| / k < gamma; by the event `nucleus`, where the teacher's
    tokens that are likelier than it hold top_p of the mass or more, or k tokens are. Early tokens weigh 1 + base, those after 1 / drop bad
    ones weigh base. prune_hits: share of rows whose effective length #{R_t > 1e-8} is at least max(least, budget - margin).
    """

    TEACHER: ClassVar[str] = "full"
    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("effective_length", "prune_hits", "overlap")

    k: Annotated[int, "at least 1"] = 16
    gamma: Annotated[float, "0 to 1"] = 0.7
    drop: Annotated[float, "at least 0"] = 0.01
    base: Annotated[float, "at least 0"] = 0.5
    margin: Annotated[int, "at least 0"] = 100  # tokens
    event: Literal["overlap", "nucleus"] = "overlap"
    top_p: Annotated[float, "above 0, at most 1"] = 0.95  # of the event nucleus
    least: Annotated[int, "at least 0"] = 0  # tokens that a row must use to count as a hit, however short the budget

    def survey(self, q: Categorical, evidence: Evidence) -> dict[str, Tensor]:
        mine_NK, theirs_NK = (topk(d, self.k)[1] for d in (q, evidence.teacher))
        found = {"overlap": among(mine_NK, theirs_NK).float().mean(-1)}
        if self.event == "nucleus":
            logp_NK, said_N1 = topk(evidence.teacher, self.k)[0], evidence.teacher.logp(evidence.action_N)[:, None]
            likelier_NK = logp_NK > said_N1
            found["outside"] = (likelier_NK.all(-1) | ((logp_NK.exp() * likelier_NK).sum(-1) >= self.top_p)).float()
        return found

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        bad_N = found["outside"] if self.event == "nucleus" else (found["overlap"] < self.gamma).float()
        bad = bad_N.split(rows.length_B.tolist())
        reliable = [(1 - self.drop * b.cumsum(0)).clamp(0, 1) for b in bad]
        effective_B = torch.tensor([float((r > 1e-8).sum()) for r in reliable])
        figures = {
            "effective_length": float(effective_B.mean()),
            "prune_hits": float((effective_B >= max(self.least, moment.window - self.margin)).float().mean()),
            "overlap": float(found["overlap"].mean()),
        }
        return torch.cat(reliable) + self.base, figures
