"""What one optimizer step trains on."""

from __future__ import annotations

from dataclasses import dataclass, field

from opd_steps.nouns.trajectory import Trajectory


@dataclass
class Batch:
    """One step's trajectories, per-row columns for the objective, and what was measured while making them."""

    rows: Trajectory
    columns: dict = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
