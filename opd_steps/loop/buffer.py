"""Rollouts made ahead of their use: stale, as in an asynchronous run, and reused, as in a replay buffer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.columns import pack, unpack
from opd_steps.nouns.hook import Hook
from opd_steps.nouns.trajectory import Trajectory


class RolloutBuffer(Hook):
    """`batches` steps' worth of rollouts by the weights of one moment, trained on `passes` times in order, then made anew.

    An after-step hook whose state is the rollouts themselves, so that a resumed run trains on the same ones.
    `make(step, version)`: the rollouts of a step, sampled by the present weights, which `version` optimizer steps made.
    `metric`, `below`: new ones as soon as train/<metric> fell under a value (f-OPD's refresh, arXiv 2605.17862).
    """

    def __init__(self, make: Callable[[int, int], Batch], batches: int, passes: int, metric: str = "", below: float = 0.0):
        self.make, self.batches, self.passes, self.metric, self.below = make, batches, passes, metric, below
        self.kept: list[Batch] = []
        self.used = 0

    def batch(self, step: int) -> Batch:
        """The rollouts of a step; their mean age in optimizer steps, and whether the buffer was filled for it, stand in the metrics."""
        fresh = self.used == 0  # also when they were kept with the checkpoint of a step that was given up
        if not self.kept:
            self.kept = [self.make(step + i, step - 1) for i in range(self.batches)]
        return self._aged(step, self.kept[self.used % self.batches], fresh)

    def _aged(self, step: int, found: Batch, fresh: bool) -> Batch:
        age = {"age": step - 1 - float(found.rows.version_B.float().mean())} if len(found.rows) else {}
        return Batch(found.rows, dict(found.columns), found.metrics | age | {"refilled": float(fresh)})

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        self.used += 1
        stale = bool(self.metric) and metrics.get(f"train/{self.metric}", self.below) < self.below  # not every step draws it
        if stale or self.used >= self.batches * self.passes:
            self.kept, self.used = [], 0

    def state_dict(self) -> dict:
        state = {"used": self.used, "plain": []}
        for i, batch in enumerate(self.kept):
            packed = pack(batch)
            tensors = {name: value for name, value in packed.items() if isinstance(value, Tensor)}
            state |= {f"{i}.{name}": value for name, value in tensors.items()}
            state["plain"].append({name: value for name, value in packed.items() if name not in tensors})
        return state

    def load_state_dict(self, state: dict) -> None:
        self.used, self.kept = state["used"], []
        for i, plain in enumerate(state["plain"]):
            tensors = {name.removeprefix(f"{i}."): value for name, value in state.items() if name.startswith(f"{i}.")}
            self.kept.append(unpack(plain | tensors))


class RolloutsAhead(RolloutBuffer):
    """One step off (arXiv 2410.18252): the rows of a step are sampled by the weights that the step before began with; the first step's
    by its own.

    `begin(step, version)`: has somebody else sample these rows from now on, while this step trains, if there is one; `make` waits for
    them, behind the update. Else they are made before it: the same rows. `last`: step. Where who samples is lost meanwhile, the rows
    are those of the newer weights, under the older number; their log-probs are as sampled.
    """

    def __init__(self, make: Callable[[int, int], Batch], begin: Callable[[int, int], bool], last: int):
        super().__init__(make, 1, 1)
        self.begin, self.last, self.made = begin, last, []

    def batch(self, step: int) -> Batch:
        fresh = not self.kept
        now = self.kept[0] if self.kept else self.make(step, step - 1)
        self.made = []  # not kept before the step is done: a killed one makes it again
        if step < self.last and not self.begin(step + 1, step - 1):
            self.made = [self.make(step + 1, step - 1)]
        return self._aged(step, now, fresh)

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        self.kept = self.made or ([self.make(step + 1, step - 1)] if step < self.last else [])


class RolloutRing(RolloutBuffer):
    """Every step mixes rollouts of all ages 0 .. batches - 1, and each rollout is trained on once: an asynchronous run.

    The batch that is made at a step is used a part at a time: prompt g of it when it is g mod `batches` steps old. At first,
    and when `metric` calls for it, the ring is filled with batches of one moment.
    """

    def batch(self, step: int) -> Batch:
        fresh = not self.kept
        first = step if fresh else step + self.batches - 1
        made = [self.make(first + i, step - 1) for i in range(self.batches if fresh else 1)]
        ring = (self.kept + made)[-self.batches :]  # not kept before the step is done: a killed one makes it again
        self.next = ring
        parts, columns = [], defaultdict(list)
        for age, batch in enumerate(reversed(ring)):
            number = {prompt: g for g, prompt in enumerate(dict.fromkeys(batch.rows.prompt_B.tolist()))}
            picks = [i for i, p in enumerate(batch.rows.prompt_B.tolist()) if number[p] % self.batches == age]
            if picks:
                parts.append(batch.rows.rows(picks))
                for name, column_B in batch.columns.items():
                    columns[name].append(column_B[picks])
        joined = {name: torch.cat(found) for name, found in columns.items()}
        return self._aged(step, Batch(Trajectory.concat(parts), joined, ring[-1].metrics), fresh)

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        stale = bool(self.metric) and metrics.get(f"train/{self.metric}", self.below) < self.below
        self.kept = [] if stale else self.next
