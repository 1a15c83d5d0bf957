"""A small world: walk to a goal on a grid. It answers each move, so a policy plays in it turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch

from opd_steps.errors import UserError
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive, rng
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.store.artifacts import Job

MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))


@dataclass(frozen=True)
class ToyGrid(World):
    """Start and goal on a size x size grid; a move slips, to a random one, with probability `slip`. Reward 1 at the goal within
    `turns`. Observations are the four coordinates, divided by the size."""

    size: Annotated[int, "at least 2"] = 4
    turns: Annotated[int, "at least 1"] = 8
    slip: Annotated[float, "0 to 1"] = 0.1
    train: Annotated[int, "at least 1"] = 64
    test: Annotated[int, "at least 1"] = 24

    def write(self, job: Job) -> dict:
        counts = {"train": self.train, "test": self.test, "ood": self.test}
        for split, count in counts.items():
            draw = rng(job.seed, "grid", split)
            rows = [{"id": f"{split}/{i}", "cells": draw.integers(0, self.size, 4).tolist()} for i in range(count)]
            write_jsonl(job.stage / f"{split}.jsonl", rows)
        return {"splits": counts}

    def pool(self, folder: Path, split: str, policy: Policy, limit: int = 0) -> GridPool:
        return GridPool(self, [row["cells"] for row in read_jsonl(folder / f"{split}.jsonl")][: limit or None], str(folder))


class GridPool(Pool):
    def __init__(self, world: ToyGrid, cells: list[list[int]], place: str):
        self.world, self.cells, self.place = world, cells, place

    def __len__(self) -> int:
        return len(self.cells)

    def _seen(self, cell: Sequence[int]) -> list[float]:
        return [x / self.world.size for x in cell]

    def contexts(self, ids: Sequence[int]) -> list[list[float]]:
        return [self._seen(self.cells[i]) for i in ids]

    def rewards(self, rows: Trajectory) -> list[float]:
        raise UserError(self.place, "a walk is judged as it is walked")

    def play(self, policy: Policy, ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        at = [list(self.cells[i]) for i in ids]
        walks: list[list[Trajectory]] = [[] for _ in ids]
        for turn in range(self.world.turns):
            alive = [w for w, cell in enumerate(at) if turn == 0 or cell[:2] != cell[2:]]
            if not alive:
                break
            said = policy.rollout(
                [self._seen(at[w]) for w in alive], [ids[w] for w in alive], [derive(seeds[w], turn) for w in alive], version
            )
            for k, w in enumerate(alive):
                walks[w].append(said.rows([k]))
                at[w] = self._moved(at[w], int(said.actions[k][0]), rng(seeds[w], "slip", turn))
        join = lambda parts, of: torch.cat([of(part) for part in parts])
        arrived = [cell[:2] == cell[2:] for cell in at]
        return Trajectory(
            self.contexts(ids),
            [join(walk, lambda p: p.actions[0]) for walk in walks],
            torch.tensor(list(ids)),
            [join(walk, lambda p: p.logp[0]) for walk in walks],
            torch.tensor(arrived, dtype=torch.float32),
            torch.full((len(at),), version),
            torch.tensor(arrived),
            {"seen": [join(walk, lambda p: p.extra["seen"][0]) for walk in walks]},
        )

    def _moved(self, cell: list[int], move: int, draw) -> list[int]:
        if draw.random() < self.world.slip:
            move = int(draw.integers(len(MOVES)))
        there = [min(max(x + d, 0), self.world.size - 1) for x, d in zip(cell[:2], MOVES[move], strict=True)]
        return [*there, *cell[2:]]

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        """Shortest walks; a start at the goal moves once."""
        if column != "solution":
            raise UserError(self.place, f"no column '{column}'; found solution")
        actions, seen = [], []
        for x, y, gx, gy in self.cells:
            moves = [0 if gx > x else 1] * abs(gx - x) + [2 if gy > y else 3] * abs(gy - y) or [0]
            path, cell = [], [x, y, gx, gy]
            for move in moves:
                path.append(self._seen(cell))
                cell = [cell[0] + MOVES[move][0], cell[1] + MOVES[move][1], gx, gy]
            actions.append(torch.tensor(moves))
            seen.append(torch.tensor(path))
        return Trajectory(self.contexts(range(len(self))), actions, torch.arange(len(self)), extra={"seen": seen})

    def show(self, rows: Trajectory) -> list[str]:
        return ["".join("><^v"[move] for move in walk.tolist()) for walk in rows.actions]
