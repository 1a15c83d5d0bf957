"""Captions that a model of images is asked for, each judged by its task's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.tasks.clip_judge import ClipJudge
from opd_steps.tasks.flow_pool import FlowPool

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy


class CaptionPool(FlowPool):
    """`rows`: of a split's file; `judges`: task -> checkpoint; `near`: the folder of their images, each learned from at `draws` times as its
    middle square of `side` pixels, and `shown` beside its prompt, or not."""

    def __init__(
        self,
        policy: FlowPolicy,
        rows: list[dict],
        judges: dict[str, str],
        near: Path,
        draws: int,
        side: int,
        shown: bool = False,
    ):
        super().__init__(policy, rows, draws)
        self.judges, self.near, self.side, self.shown = judges, near, side, shown

    def contexts(self, ids: Sequence[int]) -> list[str | dict]:
        return [self.pictured(i) if self.shown and self.data[i].get("image") else self.data[i]["prompt"] for i in ids]

    def show(self, rows: Trajectory) -> list[str]:
        return [self.data[i]["prompt"] for i in rows.prompt_B.tolist()]

    def pictured(self, index: int) -> dict:
        """The prompt with its own image, as what may see both reads it. Raises UserError where the row names none."""
        row = self.data[index]
        if not row.get("image"):
            raise UserError("context", f"shows the image of a prompt, and {row['id']} names none")
        return {"prompt": row["prompt"], "image": self._image(row["image"])}

    def rewards(self, rows: Trajectory) -> list[float]:
        return ranks.collect(self._judged(rows.rows(list(ranks.share(len(rows))))))

    def _judged(self, rows: Trajectory) -> list[float]:
        if not len(rows):
            return []
        images_BCHW = self.policy.images(torch.stack([actions[-1] for actions in rows.actions]))
        told = [self.data[i] for i in rows.prompt_B.tolist()]
        score_B = torch.zeros(len(told))
        for task, path in self.judges.items():
            mine = [b for b, row in enumerate(told) if row["task"] == task]
            if mine:
                score_B[mine] = _judge(path).score(images_BCHW[mine], [told[b]["prompt"] for b in mine])
        return score_B.tolist()

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        picks = [i for i, row in enumerate(self.data) if row.get("image")]
        if column not in ("solution", "corpus") or not picks:
            raise UserError("column", f"no '{column}' is written: expected solution or corpus, and rows with an image")
        return self.lines(column, picks, lambda row: self.policy.encoder.latents(self._image(row["image"])[None])[0])

    def _image(self, name: str) -> torch.Tensor:
        """The middle square of a file, [3, side, side] in [-1, 1]."""
        place, side = self.near / name, self.side
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
