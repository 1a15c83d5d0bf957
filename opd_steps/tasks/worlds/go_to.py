"""A robot on a board that is told which block to go to, and whose motions slip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.models.vla_policy import VLAPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.go_to_pool import GoToPool

TASKS = {"first": "red", "second": "blue", "third": "green"}


@dataclass(frozen=True)
class GoTo(World):
    """A robot and a block for each task (first: red, second: blue, third: green) on a board of size x size cells. The instruction names the
    colour of the block to reach; what is seen is an image of the board, size * pixels wide, resized where a model's is another. An action
    is two bins, how far down and right; with probability `slip` the motion is a uniform one instead. The outcome is 1 on the block, within
    the budget of the policy's tokens.

    What it writes, as nobody slips: `solution`, a whole way by the longest strides; `corpus`, its first action alone.
    """

    CODE: ClassVar[tuple[str, ...]] = ("tasks/episodes.py", "tasks/go_to_pool.py")

    size: Annotated[int, "at least 2"] = 6  # cells in a row
    pixels: Annotated[int, "at least 1"] = 2  # of a cell's side
    blocks: Annotated[int, "1 to 3"] = 2
    slip: Annotated[float, "0 to 1"] = 0.15
    only: Literal["all", "first", "second", "third"] = "all"  # the one task of the train rows
    train: Annotated[int, "at least 1"] = 4096
    test: Annotated[int, "at least 1"] = 128

    CHECKS: ClassVar[tuple[str, ...]] = ("only != 'third' or blocks == 3", "only != 'second' or blocks >= 2")

    def write(self, job: Job) -> dict:
        counts = {"train": self.train, "test": self.test, "ood": self.test}
        for split, count in counts.items():
            tasks = [self.only] if self.only != "all" and split == "train" else list(TASKS)[: self.blocks]
            rows = (self._row(tasks[i % len(tasks)], rng(job.seed, "go_to", split, i)) for i in range(count))
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", **row} for i, row in enumerate(rows)])
        return {"splits": counts}

    def _row(self, task: str, draw: np.random.Generator) -> dict:
        """`cells`: [down, right] of the robot, then of the blocks in the order of their tasks; all different."""
        places = draw.choice(self.size**2, self.blocks + 1, replace=False)
        cells = [[int(place) // self.size, int(place) % self.size] for place in places]
        return {"task": task, "prompt": TASKS[task], "block": list(TASKS).index(task), "cells": cells}

    def pool(self, folder: Path, split: str, policy: VLAPolicy, limit: int = 0) -> GoToPool:
        from opd_steps.tasks.go_to_pool import GoToPool

        rows = read_jsonl(folder / f"{split}.jsonl")[: limit or None]
        return GoToPool(rows, self.size, self.pixels, self.slip, policy.family, str(folder))
