"""A split of boards with a robot on each, played action by action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive, rng
from opd_steps.tasks.episodes import Episodes, shared

if TYPE_CHECKING:
    from opd_steps.models.families.vla import VLA
    from opd_steps.models.vla_policy import VLAPolicy

COLOURS = torch.tensor([[255, 255, 255], [255, 0, 0], [0, 0, 255], [0, 255, 0]], dtype=torch.uint8)  # the robot, the blocks
DIMS = 2  # an action: down and right


class GoToPool(Episodes):
    """`rows`: of a split's file; size, pixels and slip as the world has them (worlds.go_to).

    Column of an episode of T actions beside the policy's own: extra["path"] [T + 1, 2], where the robot was.
    """

    def __init__(self, rows: list[dict], size: int, pixels: int, slip: float, family: VLA, place: str):
        if (found := getattr(family, "dims", 0)) != DIMS:
            raise UserError(place, f"its robot moves down and right: expected a vla model with dims {DIMS}, found {found}")
        self.data, self.size, self.pixels, self.slip = rows, size, pixels, slip
        self.bins, self.place = family.bins, place

    def contexts(self, ids: Sequence[int]) -> list[dict]:
        return [self._context(i, self.data[i]["cells"][0]) for i in ids]

    def _context(self, index: int, at: Sequence[int]) -> dict:
        return {"prompt": self.data[index]["prompt"], "image": self.image(index, at)}

    def image(self, index: int, at: Sequence[int]) -> Tensor:
        """The board with the robot at a cell, [3, size * pixels, size * pixels] uint8."""
        size, wide, found = self.size, self.pixels, torch.zeros(3, self.size, self.size, dtype=torch.uint8)
        for colour, (down, right) in reversed(list(zip(COLOURS, [list(at), *self.data[index]["cells"][1:]], strict=False))):
            found[:, down, right] = colour  # the robot last: it hides the block that it stands on
        return found[:, :, None, :, None].expand(3, size, wide, size, wide).reshape(3, size * wide, size * wide)

    def goal(self, index: int) -> list[int]:
        return self.data[index]["cells"][1 + self.data[index]["block"]]

    def moved(self, at: Sequence[int], action: Sequence[int]) -> list[int]:
        """Where a motion leads that does not slip; nobody leaves the board."""
        there = (x + b - self.bins // 2 for x, b in zip(at, action, strict=True))
        return [min(max(x, 0), self.size - 1) for x in there]

    def play(self, policy: VLAPolicy, ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        """As all of `Pool`; which motions slip, and where to, is a function of seeds[i] and of the action's number alone."""
        return shared(lambda mine, chance: self._episodes(policy, mine, chance, version), policy, ids, seeds)

    def _episodes(self, policy: VLAPolicy, ids: list[int], seeds: list[int], version: int) -> Trajectory:
        chance = [rng(seed, "slips").random((policy.horizon, 1 + DIMS)).tolist() for seed in seeds]
        paths = [[list(self.data[i]["cells"][0])] for i in ids]
        parts: list[list[Trajectory]] = [[] for _ in ids]
        going = list(range(len(ids)))
        for t in range(policy.horizon):
            now = [self._context(ids[w], paths[w][-1]) for w in going]
            said = policy.rollout(now, [ids[w] for w in going], [derive(seeds[w], t) for w in going], version)
            for k, w in enumerate(going):
                parts[w].append(said.rows([k]))
                slips, *where = chance[w][t]
                action = [int(u * self.bins) for u in where] if slips < self.slip else said.actions[k].tolist()
                paths[w].append(self.moved(paths[w][-1], action))
            going = [w for w in going if paths[w][-1] != self.goal(ids[w])]
            if not going:
                break
        join = lambda of: [torch.cat([of(part) for part in row]) for row in parts]
        rows = Trajectory(
            self.contexts(ids),
            join(lambda p: p.actions[0]),
            torch.tensor(ids),
            join(lambda p: p.logp[0]),
            version_B=torch.full((len(ids),), version),
            ended_B=torch.tensor([w not in going for w in range(len(ids))]),
            extra={"seen": join(lambda p: p.extra["seen"][0]), "path": [torch.tensor(path) for path in paths]},
        )
        return self.judge(rows)

    def rewards(self, rows: Trajectory) -> list[float]:
        ends = (path[-1].tolist() for path in rows.extra["path"])
        return [float(end == self.goal(i)) for i, end in zip(rows.prompt_B.tolist(), ends, strict=True)]

    def show(self, rows: Trajectory) -> list[str]:
        """The way, a cell after the other; ~ behind a motion that slipped."""
        return [self._told(i, a.view(-1, DIMS).tolist(), p.tolist()) for i, a, p in self._each(rows)]

    def film(self, rows: Trajectory) -> list[Tensor]:
        """What an onlooker saw of each episode, its end included, [T + 1, 3, H, W] uint8."""
        return [torch.stack([self.image(i, at) for at in path]) for i, _, path in self._each(rows)]

    def _each(self, rows: Trajectory):
        return zip(rows.prompt_B.tolist(), rows.actions, rows.extra["path"], strict=True)

    def _told(self, index: int, actions: list[list[int]], path: list[list[int]]) -> str:
        cell = lambda at: f"{at[0]},{at[1]}"
        steps = zip(path, actions, path[1:], strict=False)
        way = "".join(f" {'' if self.moved(at, action) == there else '~'}{cell(there)}" for at, action, there in steps)
        return f"{self.data[index]['prompt']} {cell(self.goal(index))}: {cell(path[0])}{way}"

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        """The way by the longest strides, as the column has it."""
        if column not in ("solution", "corpus"):
            raise UserError(self.place, f"no column '{column}'; found solution, corpus")
        ways = [self._way(i, 1 if column == "corpus" else 0) for i in range(len(self))]
        seen = [torch.stack([self.image(i, at) for at in path[:-1]]) for i, (_, path) in enumerate(ways)]
        extra = {"seen": seen, "path": [torch.tensor(path) for _, path in ways]}
        actions = [torch.tensor(actions).flatten() for actions, _ in ways]
        return Trajectory(self.contexts(range(len(self))), actions, torch.arange(len(self)), extra=extra)

    def _way(self, index: int, most: int = 0) -> tuple[list[list[int]], list[list[int]]]:
        """(actions, cells) to the goal, at most so many actions; 0: all."""
        actions, path, goal, far = [], [self.data[index]["cells"][0]], self.goal(index), self.bins // 2
        least, last = -far, self.bins - 1 - far
        while path[-1] != goal and (not most or len(actions) < most):
            actions.append([min(max(g - x, least), last) + far for g, x in zip(goal, path[-1], strict=True)])
            path.append(self.moved(path[-1], actions[-1]))
        return actions, path
