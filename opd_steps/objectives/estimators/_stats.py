"""Figures that every estimator reports."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.supports._selected import Selected


@torch.no_grad()
def log_ratio(q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
    """log p(a) - log q(a) of the sampled action, [N]; its mean estimates -KL(q||p). Nothing without a teacher."""
    if evidence.teacher is None:
        return {}
    return {"log_ratio": evidence.log_ratio(q)}


@torch.no_grad()
def divergence(on: Selected, signal: Any) -> dict[str, Tensor]:
    """The signal's divergence over a set of tokens, [N]."""
    return {"divergence": on.total(signal.term)}
