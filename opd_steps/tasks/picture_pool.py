"""Prompts for small images, judged by the nearest of the clean images that they could be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.flow_pool import FlowPool

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy


class PicturePool(FlowPool):
    """`rows`: of a split's file, with a `prompt` and a `task`; `images`: column -> row -> the image that it writes, [3, SIDE, SIDE].

    kinds     the clean images that there are, by their names
    fits      row -> names of those that its prompt allows
    sharp     mean squared distance at which a template is e times less likely than the nearest one
    """

    def __init__(
        self,
        policy: FlowPolicy,
        rows: list[dict],
        images: Mapping[str, Callable[[dict], Tensor]],
        kinds: Mapping[Any, Tensor],
        fits: Callable[[dict], set],
        sharp: float,
        draws: int,
    ):
        super().__init__(policy, rows, draws)
        self.images, self.kinds, self.fits, self.sharp = images, kinds, fits, sharp

    def contexts(self, ids: Sequence[int]) -> list[str | dict]:
        """Prompts; of a split that also shows images, each with its image, or with none (of size 0)."""
        return [self.pictured(i) if "pictured" in self.data[i] else self.data[i]["prompt"] for i in ids]

    @cached_property
    def _kinds_KD(self) -> Tensor:
        return torch.stack([image.flatten() for image in self.kinds.values()])

    def distances(self, rows: Trajectory) -> tuple[Tensor, Tensor]:
        """(mean squared distance of each row's image to each clean one [B, K], which of these its prompt allows [B, K])."""
        image_BD = self.policy.images(torch.stack([actions[-1] for actions in rows.actions])).flatten(1)
        gap_BK = torch.cdist(image_BD, self._kinds_KD).square() / image_BD.shape[1]
        allowed = [self.fits(self.data[i]) for i in rows.prompt_B.tolist()]
        return gap_BK, torch.tensor([[name in names for name in self.kinds] for names in allowed])

    def rewards(self, rows: Trajectory) -> list[float]:
        """How likely it is one of those that the prompt allows: softmax over the clean images of -distance / sharp."""
        gap_BK, fits_BK = self.distances(rows)
        return ((-gap_BK / self.sharp).softmax(-1) * fits_BK).sum(-1).tolist()

    def measures(self, rows: Trajectory) -> dict[str, Tensor]:
        """Of each row, [B]: `right`, 1 where the nearest clean image is one that the prompt allows; `distance`, mean squared, to that image;
        `error`, to the nearest that is allowed."""
        gap_BK, fits_BK = self.distances(rows)
        return {
            "right": fits_BK.gather(1, gap_BK.argmin(-1, keepdim=True))[:, 0].float(),
            "distance": gap_BK.min(-1).values,
            "error": gap_BK.masked_fill(~fits_BK, torch.inf).min(-1).values,
        }

    def show(self, rows: Trajectory) -> list[str]:
        """The name of the nearest clean image."""
        names = list(self.kinds)
        return [str(names[k]) for k in self.distances(rows)[0].argmin(-1).tolist()]

    def pictured(self, index: int) -> dict:
        """The prompt with the image that the data have for it, unless they do not show it."""
        row = self.data[index]
        return {
            "prompt": row["prompt"],
            "image": self.images["solution"](row) if row.get("pictured", True) else torch.zeros(3, 0, 0),
        }

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        """Lines to the images of the column."""
        if column not in self.images:
            raise UserError("column", f"this task writes no '{column}'; it writes {', '.join(self.images)}")
        return self.lines(column, range(len(self)), self.images[column])
