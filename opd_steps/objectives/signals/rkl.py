from __future__ import annotations

from dataclasses import dataclass

from opd_steps.objectives.signals.log_ratio import LogRatio


@dataclass(frozen=True)
class ReverseKL(LogRatio):
    """KL(q||p) = sum_v q_v (log q_v - log p_v): mode-seeking. The log-ratio by its name as a divergence."""
