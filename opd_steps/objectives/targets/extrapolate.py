from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.nouns.dist import Categorical, Recorded, StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.targets import Target


@dataclass(frozen=True)
class Extrapolate(Target):
    """lam log p + (1 - lam) log r: beyond the teacher, as seen from a reference r (G-OPD, ExOPD, arXiv 2602.12125; 2605.08737).

    With the log-ratio signal A = lam (log p - log r) - (log q - log r); the per-state optimum is q* proportional to
    p^lam r^(1-lam). lam = 1 is the teacher itself, and no reference is asked. The values are log-weights, not normalised: a
    constant per state, which changes no expected gradient of reverse KL. r: the node's `reference`.
    """

    REFERENCE: ClassVar[bool] = True
    NEUTRAL: ClassVar[dict] = {"lam": 1.0}  # options that make it the teacher itself
    NORMALISED: ClassVar[bool] = False

    lam: Annotated[float, "at least 0"] = 1.25

    def of(self, q: StepDist, evidence: Evidence) -> StepDist:
        p, r = evidence.teacher, evidence.reference
        if self.lam == 1:
            return p
        if isinstance(p, Categorical) and isinstance(r, Categorical):
            return Categorical(self.lam * p.logp_NV + (1 - self.lam) * r.logp_NV)
        action_N = evidence.action_N
        return Recorded(self.lam * p.logp(action_N) + (1 - self.lam) * r.logp(action_N))
