from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor

from opd_steps.nouns.duel import Duels
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class Duel(Estimator):
    """The discriminator's loss of PRISM (arXiv 2604.28123), for a critic's duels of a teacher's text (first) with a policy's. At
    aggregate seq_sum, the mean over duels of a sum over segments, it is, D the critic's score,

        sum_k E[ -log sigmoid(D_k(teacher) - D_k(policy)) ] + ridge * mean D^2 + balance * aux

    mean D^2: over both texts and all segments; aux: the router's imbalance (models/experts.py), for the warm-up.
    accuracy: P[D(teacher) > D(policy)], a tie counts half.
    """

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"
    TEACHER: ClassVar[str] = "none"
    METRICS: ClassVar[tuple[str, ...]] = ("accuracy", "score_square", "imbalance")

    ridge: Annotated[float, "at least 0"] = 0.001
    balance: Annotated[float, "at least 0"] = 0.0

    def loss(self, q: Duels, evidence: Evidence, support: Any, signal: Any, baseline: Any) -> tuple[Tensor, dict[str, Tensor]]:
        square_N, aux_N = q.score_N2.square().mean(-1), q.imbalance_N2.mean(-1)
        loss_N = -q.logp(evidence.action_N) + (self.ridge * square_N + self.balance * aux_N) / q.segments
        ahead_N = (q.score_N2[:, 0] - q.score_N2[:, 1]).sign() / 2 + 0.5
        return loss_N, {"accuracy": ahead_N, "score_square": square_N, "imbalance": aux_N}
