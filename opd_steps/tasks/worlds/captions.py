"""Your own prompts for images, a model of CLIP's kind that judges the images of each task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from opd_steps.errors import UserError
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.caption_pool import CaptionPool


@dataclass(frozen=True)
class Captions(World):
    """A JSONL file of rows with `prompt` and `task`, and perhaps `image`, a file beside it: what there is to learn from, as `solution` and
    `corpus`. `judges`: task -> a checkpoint (tasks/clip_judge.py), whose score is the outcome.

    test, ood   the file's last `test` rows, and as many before them
    only        the one task of the train rows; "" = all
    pictured    whether prompts that have an image are shown with it, to a model that reads both
    """

    CODE: ClassVar[tuple[str, ...]] = ("tasks/caption_pool.py",)

    path: str
    judges: dict[str, str] = field(default_factory=dict)
    only: str = ""
    pictured: bool = False
    test: Annotated[int, "at least 1"] = 128
    draws: Annotated[int, "at least 1"] = 4  # times at which an image is learned from
    side: Annotated[int, "at least 8"] = 512  # pixels of an image that is learned from: its middle square

    def write(self, job: Job) -> dict:
        rows = read_jsonl(Path(self.path).expanduser())
        for i, row in enumerate(rows):
            if not isinstance(row.get("prompt"), str) or row.get("task") not in self.judges:
                known = ", ".join(self.judges) or "none"
                raise UserError(f"{self.path}:{i + 1}", f"expected a prompt, and a task that has a judge: {known}")
        if len(rows) <= 2 * self.test:
            raise UserError(
                self.path, f"{len(rows)} prompts, of which test and ood take {2 * self.test}: none is left to train on"
            )
        cut = len(rows) - 2 * self.test
        parts = {"train": rows[:cut], "ood": rows[cut : cut + self.test], "test": rows[cut + self.test :]}
        parts["train"] = [row for row in parts["train"] if self.only in ("", row["task"])]
        for split, part in parts.items():
            if not part:
                raise UserError("task.only", f"no train prompt is of the task '{self.only}'")
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", **row} for i, row in enumerate(part)])
        return {"splits": {split: len(part) for split, part in parts.items()}}

    def pool(self, folder: Path, split: str, policy: FlowPolicy, limit: int = 0) -> CaptionPool:
        from opd_steps.tasks.caption_pool import CaptionPool

        rows, near = read_jsonl(folder / f"{split}.jsonl")[: limit or None], Path(self.path).expanduser().parent
        return CaptionPool(policy, rows, self.judges, near, self.draws, self.side, self.pictured)
