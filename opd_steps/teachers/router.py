"""One teacher that is several by turns: each row is asked of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.policy import Teacher
from opd_steps.nouns.routed import Routed
from opd_steps.nouns.trajectory import Trajectory


class Router:
    """`teachers` by the value of a row's `column`; each runs over its own rows alone."""

    def __init__(self, column: str, teachers: Mapping[str, Teacher], pool: Any):
        self.column, self.names, self.teachers, self.pool = column, list(teachers), list(teachers.values()), pool

    def prepare(self, rows: Trajectory, name: str) -> Trajectory:
        """Column <name>:route, which of the teachers. They themselves have prepared the rows already."""
        values = [str(self.pool.column(self.column, i)) for i in rows.prompt_B.tolist()]
        if strangers := sorted(set(values) - set(self.names)):
            known = ", ".join(self.names)
            raise UserError(
                f"teachers.{name}", f"no teacher for rows whose {self.column} is '{strangers[0]}'; it names {known}"
            )
        route = [self.names.index(value) for value in values]
        return rows.with_columns(extra=rows.extra | {f"{name}:route": route})

    def dist(self, trajectory: Trajectory, role: str, asks: Asks = NOTHING) -> StepDist:
        route_B = torch.tensor(trajectory.extra[f"{role}:route"])
        used = route_B.unique().tolist()
        parts = [self.teachers[k].dist(trajectory.rows((route_B == k).nonzero()[:, 0].tolist()), "", asks) for k in used]
        if len(parts) == 1:
            return parts[0]
        route_N = route_B[trajectory.owner_N]
        which_N = sum((route_N == k) * i for i, k in enumerate(used))
        at_N = sum((route_N == k) * ((route_N == k).cumsum(0) - 1) for k in used)
        return Routed(parts, which_N, at_N)
