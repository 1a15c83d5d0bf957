from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import log_ratio
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.outcome import kl_k3


@dataclass(frozen=True)
class K3Clamped(Estimator):
    """min(cap, exp(d) - 1 - d), d = log p(a) - log q(a), back-propagated: verl's distillation default `loss_mode: k3`.

    (github.com/verl-project/verl: kl_penalty in verl/trainer/ppo/core_algos.py clamps the value at 10.) Like `k3` its
    expected gradient is that of the *forward* KL(p||q), except that tokens above the cap give none: at 10 those that the
    teacher likes more than 13.6 times as much as the student (and those below a 59000th), the former being the very
    tokens that forward KL is there for. So the mean is not quite the gradient of any divergence.
    """

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"
    METRICS: ClassVar[tuple[str, ...]] = ("clamped",)

    cap: Annotated[float, "above 0"] = 10.0

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        value_N = kl_k3(q.logp(evidence.action_N), evidence.teacher.logp(evidence.action_N).detach())
        above_N = value_N.detach() > self.cap
        return value_N.clamp(max=self.cap), {"clamped": above_N.to(value_N.dtype), **log_ratio(q, evidence)}
