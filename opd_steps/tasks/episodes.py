"""Episodes of a policy that acts while its world answers: each process plays its share of them, and all of them know all rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opd_steps.errors import UserError
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks


class Episodes(Pool):
    """`data`: rows of a split's file, where episodes begin."""

    data: list[dict]

    def __len__(self) -> int:
        return len(self.data)

    def name(self, index: int) -> str:
        return self.data[index]["id"]

    def column(self, name: str, index: int) -> Any:
        if name not in self.data[index]:
            raise UserError("data", f"no column '{name}'; found {', '.join(self.data[index])}")
        return self.data[index][name]


def shared(
    play: Callable[[list[int], list[int]], Trajectory], policy: Any, ids: Sequence[int], seeds: Sequence[int]
) -> Trajectory:
    """`play(ids, seeds)`, a row each, of this process's part of them; the rows of all processes in order."""
    if ranks.world() == 1:
        return play(list(ids), list(seeds))
    mine = ranks.share(len(ids))
    with ranks.whole(policy.model):
        rows = play([ids[i] for i in mine], [seeds[i] for i in mine]) if mine else None
    return Trajectory.concat(ranks.collect([rows.rows([k]) for k in range(len(mine))]))
