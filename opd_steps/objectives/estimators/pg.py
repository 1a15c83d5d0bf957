from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.estimators._stats import divergence, log_ratio
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.supports._selected import Selected

MAX_LOG_RATIO = 20.0  # of rho, either way; exp() stays finite


@dataclass(frozen=True)
class PolicyGradient(Estimator):
    """The score function: -A log q with A = sg[reward - baseline + shift], transformed. Without transforms
    its mean gradient is that of the signal's divergence.

    On the sampled action, with rho = q(a) / sampler(a):
        ratio none              -A log q(a)                                        (the gradient at rho = 1)
        ratio sampler           -rho A                                             (no clip)
        + clip_low, clip_high   -min(rho A, clip(rho, 1 - low, 1 + high) A)        (PPO, arXiv 1707.06347; DAPO 2503.14476)
        + is_cap                -sg[min(rho, cap)] A log q(a)                      (truncated importance sampling)
        + mask_low, mask_high   actions with rho outside [low, high] count for 0
    On a set of tokens, ratio none: -sum_v sg[q~_v] A_v log q_v, q~ the student renormalised on the set (arXiv 2604.13016).
    at_rollout: log q in the reward is the sampler's, as it was when the rows were made: A stays while minibatches move q.
    A clip, cap or mask of 0 is off. Unbiased for any state-only baseline; clip, cap and mask trade bias for variance.
    """

    SUPPORT: ClassVar[str] = "any"
    SIGNAL: ClassVar[str] = "any"
    BASELINE: ClassVar[bool] = True
    TRANSFORM: ClassVar[bool] = True
    CHECKS: ClassVar[tuple[str, ...]] = ("mask_low < mask_high or mask_high == 0", "not at_rollout or ratio == 'sampler'")

    ratio: Literal["none", "sampler"] = "none"
    clip_low: Annotated[float, "0 to 1"] = 0.0
    clip_high: Annotated[float, "at least 0"] = 0.0
    is_cap: Annotated[float, "at least 0"] = 0.0
    mask_low: Annotated[float, "at least 0"] = 0.0
    mask_high: Annotated[float, "at least 0"] = 0.0
    at_rollout: bool = False  # log q in the reward as the sampler had it

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any, transforms: tuple = ()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        on = support.select(q, evidence.teacher, evidence.action_N)
        if self.ratio == "sampler" and (evidence.sampler_logp_N is None or on.logq_NK.shape[1] != 1):
            raise ValueError("ratio: sampler needs the sampled support, and actions with their sampler's log-probs")
        if signal.KIND == "observed":
            reward_NK = signal.observed(evidence)[:, None]
        else:
            logq_NK = evidence.sampler_logp_N[:, None] if self.at_rollout else on.logq_NK.detach()
            reward_NK = signal.reward(logq_NK, on.logp_NK)
        advantage_NK = (reward_NK - baseline.value_N(q, evidence.teacher, signal)[:, None]).detach()
        if evidence.shift_N is not None:
            advantage_NK = advantage_NK + evidence.shift_N[:, None]
        for transform in transforms:
            advantage_NK = transform.apply(advantage_NK, evidence)
        stats = {"advantage": on.sum(on.weight_NK * advantage_NK), **log_ratio(q, evidence)}
        if support.TEACHER != "sampled" and signal.KIND == "divergence":
            stats |= divergence(on, signal)
        if self.ratio == "none":
            return -on.sum(on.weight_NK * advantage_NK * on.logq_NK), stats
        loss_N, ratio_stats = self._with_ratio(on, advantage_NK[:, 0], evidence.sampler_logp_N)
        return loss_N, stats | ratio_stats

    def _with_ratio(self, on: Selected, advantage_N: Tensor, sampler_logp_N: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logq_N = on.logq_NK[:, 0]
        rho_N = (logq_N - sampler_logp_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        fixed_N = rho_N.detach()
        if self.is_cap:
            gain_N = fixed_N.clamp(max=self.is_cap) * advantage_N * logq_N
            clipped_N = fixed_N > self.is_cap
        else:
            free_N, bound_N = rho_N * advantage_N, self._clip(rho_N) * advantage_N
            gain_N, clipped_N = torch.minimum(free_N, bound_N), bound_N.detach() < free_N.detach()
        outside_N = (fixed_N < self.mask_low) | (fixed_N > (self.mask_high or torch.inf))
        stats = {"ratio": fixed_N, "clipped": (clipped_N | outside_N).to(fixed_N.dtype)}
        return -gain_N.masked_fill(outside_N, 0.0), stats

    def _clip(self, rho_N: Tensor) -> Tensor:
        low = 1 - self.clip_low if self.clip_low else None
        high = 1 + self.clip_high if self.clip_high else None
        return rho_N if low is None and high is None else rho_N.clamp(low, high)
