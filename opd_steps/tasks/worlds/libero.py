"""LIBERO: a robot's arm at a table, told what to do (arXiv 2306.03310), in the simulator that its authors published."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from opd_steps.errors import UserError
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.models.vla_policy import VLAPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.libero_pool import LiberoPool


@dataclass(frozen=True)
class Libero(World):
    """Every initial state of every task of a suite is a context, an image from before the table with the task's instruction; an episode
    moves the arm until the goal is reached (outcome 1) or the policy's budget of tokens is spent. Motions are of seven numbers: place,
    rotation, gripper. `make libero` installs the simulator, which fetches its meshes from the hub when it is first used.

    `held_out` of a task's initial states are kept for tests; 0: tests begin where trainings do, as the tables of the field are made.
    The split ood is the suite `other`.
    """

    CODE: ClassVar[tuple[str, ...]] = (
        "tasks/episodes.py",
        "tasks/libero.py",
        "tasks/libero_pool.py",
        "tasks/libero_worker.py",
        "tasks/simulators.py",
    )
    WRITTEN_BY: ClassVar[tuple[str, ...]] = ("tasks/libero.py", "tasks/libero_worker.py", "tasks/simulators.py")

    suite: Literal["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"] = "libero_spatial"
    other: Literal["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"] = "libero_goal"
    tasks: Annotated[list[int], "at least 0"] = field(default_factory=list)  # numbers of the tasks of the train rows; []: all
    held_out: Annotated[int, "at least 0"] = 0
    limit: Annotated[int, "at least 0"] = 0  # initial states of a task that are looked at, 0: all (50)
    settle: Annotated[int, "at least 0"] = 15  # steps without motion before an episode, in which things fall into place
    side: Annotated[int, "at least 1"] = 256  # of an image
    at_once: Annotated[int, "at least 1"] = 8  # simulators of a process, each a process of 1.5 GB

    def write(self, job: Job) -> dict:
        from opd_steps.tasks.libero import known_tasks

        mine = self._rows(self.suite, known_tasks(self.suite))
        if strange := sorted(set(self.tasks) - {row["number"] for row in mine}):
            raise UserError("task.tasks", f"{self.suite} has no task {strange[0]}")
        kept = [row for row in mine if row["state"] < self.held_out]
        train = [row for row in mine if row["state"] >= self.held_out and (not self.tasks or row["number"] in self.tasks)]
        if not train:
            raise UserError("task.held_out", f"expected fewer than the initial states of a task, found {self.held_out}")
        splits = {"train": train, "test": kept or mine, "ood": self._rows(self.other, known_tasks(self.other))}
        for split, rows in splits.items():
            write_jsonl(job.stage / f"{split}.jsonl", rows)
        return {"splits": {split: len(rows) for split, rows in splits.items()}}

    def _rows(self, suite: str, known: list[tuple[str, int]]) -> list[dict]:
        return [
            {"id": f"{suite}/{number}/{state}", "task": said, "prompt": said, "suite": suite, "number": number, "state": state}
            for number, (said, states) in enumerate(known)
            for state in range(min(states, self.limit or states))
        ]

    def pool(self, folder: Path, split: str, policy: VLAPolicy, limit: int = 0) -> LiberoPool:
        from opd_steps.tasks.libero_pool import LiberoPool

        rows = read_jsonl(folder / f"{split}.jsonl")[: limit or None]
        return LiberoPool(rows, self.settle, self.side, self.at_once, policy.family, str(folder))
