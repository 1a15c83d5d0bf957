"""Rollouts made ahead of their use: stale, as in an asynchronous run, and reused, as in a replay buffer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from opd_steps.nouns.batch import Batch
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
        age = step - 1 - float(found.rows.version_B.float().mean())
        return Batch(found.rows, dict(found.columns), found.metrics | {"age": age, "refilled": float(fresh)})

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        self.used += 1
        stale = bool(self.metric) and metrics.get(f"train/{self.metric}", self.below) < self.below  # not every step draws it
        if stale or self.used >= self.batches * self.passes:
            self.kept, self.used = [], 0

    def state_dict(self) -> dict:
        packed = {f"{i}.{name}": value for i, b in enumerate(self.kept) for name, value in _pack(b.rows).items()}
        sources = [b.rows.extra.get("source") for b in self.kept]
        return packed | {"used": self.used, "metrics": [b.metrics for b in self.kept], "sources": sources}

    def load_state_dict(self, state: dict) -> None:
        self.used, self.kept = state["used"], []
        for i, (metrics, source) in enumerate(zip(state["metrics"], state["sources"], strict=True)):
            own = {name.split(".", 1)[1]: v for name, v in state.items() if name.startswith(f"{i}.")}
            extra = {} if source is None else {"source": source}
            self.kept.append(Batch(_unpack(own).with_columns(extra=extra), metrics=metrics))


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
        parts = []
        for age, batch in enumerate(reversed(ring)):
            number = {prompt: g for g, prompt in enumerate(dict.fromkeys(batch.rows.prompt_B.tolist()))}
            picks = [i for i, p in enumerate(batch.rows.prompt_B.tolist()) if number[p] % self.batches == age]
            parts += [batch.rows.rows(picks)] if picks else []
        return self._aged(step, Batch(Trajectory.concat(parts), metrics=ring[-1].metrics), fresh)

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        stale = bool(self.metric) and metrics.get(f"train/{self.metric}", self.below) < self.below
        self.kept = [] if stale else self.next


_RAGGED = ("contexts", "actions", "logp")
_FLAT = ("prompt_B", "reward_B", "version_B", "ended_B")


def _pack(rows: Trajectory) -> dict[str, Tensor]:
    """Tensors that hold sampled rows; what a stage adds to them, but for their sources, is added again at their use."""
    lists = {name: [torch.as_tensor(x) for x in getattr(rows, name)] for name in _RAGGED}
    out = {name: torch.cat(parts) for name, parts in lists.items()}
    out |= {f"{name}_length": torch.tensor([len(x) for x in parts]) for name, parts in lists.items()}
    return out | {name: getattr(rows, name) for name in _FLAT}


def _unpack(columns: dict[str, Tensor]) -> Trajectory:
    ragged = {name: list(columns[name].split(columns[f"{name}_length"].tolist())) for name in _RAGGED}
    ragged["contexts"] = [x.tolist() for x in ragged["contexts"]]
    return Trajectory(**ragged, **{name: columns[name] for name in _FLAT})
