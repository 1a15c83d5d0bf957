"""Captions that a model of images is asked for, each judged by its task's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from opd_steps.errors import UserError
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.clip_judge import ClipJudge
from opd_steps.tasks.flow_lines import line

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy


class CaptionPool(Pool):
    """`rows`: of a split's file; `judges`: task -> checkpoint; `near`: the folder of their images, each learned from at `draws` times as its
    middle square of `side` pixels."""

    def __init__(self, policy: FlowPolicy, rows: list[dict], judges: dict[str, str], near: Path, draws: int, side: int):
        self.policy, self.data, self.judges, self.near = policy, rows, judges, near
        self.draws, self.side = draws, side

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
        for task, path in self.judges.items():
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
            lines.append(line(latent_D, self.draws, shift, column, i))
        states, actions, sigmas = (list(part) for part in zip(*lines, strict=True))
        return Trajectory(self.contexts(picks), actions, torch.tensor(picks), extra={"latents": states, "sigmas": sigmas})

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
