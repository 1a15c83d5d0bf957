"""Your own prompts for images, a model of CLIP's kind that judges the images of each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from opd_steps.errors import UserError
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.clip_judge import ClipJudge
from opd_steps.tasks.flow_lines import line
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class Captions(World):
    """A JSONL file of rows with `prompt` and `task`, and perhaps `image`, a file beside it: what there is to learn from, as `solution` and
    `corpus`. `judges`: task -> a checkpoint (tasks/clip_judge.py), whose score is the outcome.

    test, ood   the file's last `test` rows, and as many before them
    only        the one task of the train rows; "" = all
    """

    path: str
    judges: dict[str, str] = field(default_factory=dict)
    only: str = ""
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
        return CaptionPool(self, policy, read_jsonl(folder / f"{split}.jsonl")[: limit or None])


class CaptionPool(Pool):
    def __init__(self, world: Captions, policy: FlowPolicy, rows: list[dict]):
        self.world, self.policy, self.data = world, policy, rows

    def __len__(self) -> int:
        return len(self.data)

    def contexts(self, ids: Sequence[int]) -> list[str]:
        return [self.data[i]["prompt"] for i in ids]

    def column(self, name: str, index: int) -> Any:
        if name not in self.data[index]:
            raise UserError("data", f"no column '{name}'; found {', '.join(self.data[index])}")
        return self.data[index][name]

    def name(self, index: int) -> str:
        return self.data[index]["id"]

    def show(self, rows: Trajectory) -> list[str]:
        return self.contexts(rows.prompt_B.tolist())

    def rewards(self, rows: Trajectory) -> list[float]:
        images_BCHW = self.policy.images(torch.stack([actions[-1] for actions in rows.actions]))
        told = [self.data[i] for i in rows.prompt_B.tolist()]
        score_B = torch.zeros(len(told))
        for task, path in self.world.judges.items():
            mine = [b for b, row in enumerate(told) if row["task"] == task]
            if mine:
                score_B[mine] = _judge(path).score(images_BCHW[mine], [told[b]["prompt"] for b in mine])
        return score_B.tolist()

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        picks = [i for i, row in enumerate(self.data) if row.get("image")]
        if column not in ("solution", "corpus") or not picks:
            raise UserError("column", f"no '{column}' is written: expected solution or corpus, and rows with an image")
        shift, lines = self.policy.family.shift, []
        for i in picks:
            latent_D = self.policy.encoder.latents(self._image(self.data[i]["image"])[None])[0].flatten()
            lines.append(line(latent_D, self.world.draws, shift, column, i))
        states, actions, sigmas = (list(part) for part in zip(*lines, strict=True))
        return Trajectory(self.contexts(picks), actions, torch.tensor(picks), extra={"latents": states, "sigmas": sigmas})

    def _image(self, name: str) -> torch.Tensor:
        """The middle square of a file, [3, side, side] in [-1, 1]."""
        place, side = Path(self.world.path).expanduser().parent / name, self.world.side
        try:
            with Image.open(place) as file:
                picture = ImageOps.fit(file.convert("RGB"), (side, side))
        except OSError as error:
            raise UserError(str(place), f"not a readable image: {error}") from None
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1

    def measures(self, rows: Trajectory) -> dict[str, torch.Tensor]:
        """Of each row, for a suite: nothing beside its reward."""
        return {}


@cache
def _judge(path: str) -> ClipJudge:
    return ClipJudge(path)
