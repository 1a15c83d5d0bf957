"""What one optimizer step trains on."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from opd_steps.nouns.trajectory import Trajectory


@dataclass
class Batch:
    """One step's trajectories, per-row columns for the objective, and what was measured while making them.

    rate       the chance of each record to be in it, where records come by chance; then `expected` is the mean number of rows, by
               which means over rows divide. 0: as many rows as there are
    """

    rows: Trajectory
    columns: dict = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    expected: int = 0

    @classmethod
    def empty(cls) -> Batch:
        """No record came."""
        none = torch.zeros(0)
        return cls(Trajectory([], [], none.long(), [], none, none.long(), none.bool()))
