"""A world that is no text: a point has a few moves to reach its goal, and slips. For the test of what a new world takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch

from opd_steps.errors import UserError
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.store.artifacts import Job

SPEED, NEAR = 0.4, 0.25


@dataclass(frozen=True)
class Reach(World):
    """Goals in [-1, 1]^2, a point at 0; an episode ends at its goal (outcome 1), or after `horizon` moves (outcome 0)."""

    goals: Annotated[int, "at least 1"] = 32
    horizon: Annotated[int, "at least 1"] = 5
    slip: Annotated[float, "at least 0"] = 0.05  # standard deviation that the world adds to every move

    def write(self, job: Job) -> dict:
        for split in ("train", "test", "ood"):
            draw = rng(job.seed, "reach", split)
            write_jsonl(job.stage / f"{split}.jsonl", [{"goal": draw.uniform(-1, 1, 2).tolist()} for _ in range(self.goals)])
        return {"splits": dict.fromkeys(("train", "test", "ood"), self.goals)}

    def pool(self, folder: Path, split: str, policy: Policy, limit: int = 0) -> ReachPool:
        rows = read_jsonl(folder / f"{split}.jsonl")[: limit or None]
        return ReachPool(self, torch.tensor([row["goal"] for row in rows]))


class ReachPool(Pool):
    def __init__(self, world: Reach, goal_N2: torch.Tensor):
        self.world, self.goal_N2 = world, goal_N2

    def __len__(self) -> int:
        return len(self.goal_N2)

    def contexts(self, ids: Sequence[int]) -> list[list[float]]:
        return self.goal_N2[list(ids)].tolist()

    def rewards(self, rows: Trajectory) -> list[float]:
        raise NotImplementedError("an episode is judged while it is played")

    def play(self, policy: Policy, ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        goal_B2, at_B2 = self.goal_N2[list(ids)], torch.zeros(len(ids), 2)
        noise = np.stack([rng(seed).standard_normal((self.world.horizon, 4)) for seed in seeds]).astype("float32")
        columns = {name: [[] for _ in ids] for name in ("move", "logp", "state")}
        going_B = torch.ones(len(ids), dtype=torch.bool)
        for noise_B4 in torch.from_numpy(noise).unbind(1):
            state_B4 = torch.cat([at_B2, goal_B2], -1)
            move_B2, logp_B = policy.act(state_B4, noise_B4[:, :2])
            for i in going_B.nonzero()[:, 0].tolist():
                for name, value in zip(columns, (move_B2[i], logp_B[i], state_B4[i]), strict=True):
                    columns[name][i].append(value)
            at_B2 = torch.where(going_B[:, None], at_B2 + move_B2 + self.world.slip * noise_B4[:, 2:], at_B2)
            going_B &= (at_B2 - goal_B2).norm(dim=-1) > NEAR
        move, logp, state = ([torch.stack(row) for row in rows] for rows in columns.values())
        version_B = torch.full((len(ids),), version)
        return Trajectory(
            goal_B2.tolist(), move, torch.tensor(list(ids)), logp, (~going_B).float(), version_B, ~going_B, {"state": state}
        )

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        """Demonstrations: straight to the goal, at a speed that is too low."""
        if column != "demo":
            raise UserError("column", f"found '{column}', expected demo")
        steps, every = self.world.horizon, range(len(self))
        moves = [(goal / max(float(goal.norm()), 1e-6) * SPEED / 2).expand(steps, 2).clone() for goal in self.goal_N2]
        states = [
            torch.cat([torch.arange(steps)[:, None] * move, goal.expand(steps, 2)], -1)
            for move, goal in zip(moves, self.goal_N2, strict=True)
        ]
        return Trajectory(self.contexts(every), moves, torch.arange(len(self)), extra={"state": states})
