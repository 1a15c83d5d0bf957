from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import DiagGaussian, StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import divergence, log_ratio
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class StateAdvantage(Estimator):
    """-A log q(a) with A = sg[ sum_v q~_v r_v ] over the set: one number per state, whatever action was taken.

    miles' top-k OPD (github.com/radixark/miles/issues/2362): the top-k KL of a state as the advantage of the one token
    that was sampled. An advantage that does not depend on the action is a baseline without a reward, so the expected
    gradient is 0: pure noise. Here for comparison alone; `pg` on the same set keeps one advantage per token, as the
    paper does (arXiv 2604.13016). Between Gaussian steps A = -D in closed form: the update that Flow-OPD states
    (arXiv 2605.08063).

    detached: false: D rho with rho = q(a) / sg[q(a)] = 1, with the gradient of both, grad D + D grad log q(a): that of `exact`, and noise
    of mean 0. Flow-OPD's released code, whose advantage is not detached.
    per_dim: log q is a mean over a Gaussian step's dimensions, as there; so much smaller is the noise beside the gradient of D.
    """

    SUPPORT: ClassVar[str] = "set"
    SIGNAL: ClassVar[str] = "divergence"
    METRICS: ClassVar[tuple[str, ...]] = ("advantage",)

    detached: bool = True
    per_dim: bool = False

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logq_N = q.logp(evidence.action_N)
        if isinstance(q, DiagGaussian):
            logq_N = logq_N / q.mean_ND.shape[-1] if self.per_dim else logq_N
            value_N = signal.gaussian(q, evidence.teacher)
            advantage_N, told = -value_N.detach(), {"divergence": value_N.detach()}
        else:
            on = support.select(q, evidence.teacher, evidence.action_N)
            value_N = None if self.detached else on.total(signal.term)
            advantage_N = on.sum(on.weight_NK * signal.reward(on.logq_NK, on.logp_NK)).detach()
            told = divergence(on, signal)
        stats = {"advantage": advantage_N, **told, **log_ratio(q, evidence)}
        if self.detached:
            return -advantage_N * logq_N, stats
        return value_N * (logq_N - logq_N.detach()).exp(), stats
