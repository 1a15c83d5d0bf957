"""Questions about pictures or videos, whose answers in text a verifier judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.tasks.pool import PromptPool


@dataclass
class SeenPool(PromptPool):
    """`scene`, `crop`: of a row, [T, 3, H, W] uint8: all that there is to see, and the part of it that tells the answer. `rate`: frames
    a second. `view`: what is shown of a row that does not say so itself. `shape`: of (a row, scene or crop), without looking at it."""

    scene: Callable[[dict], Tensor] | None = None
    crop: Callable[[dict], Tensor] | None = None
    rate: float = 1.0
    view: str = ""
    shape: Callable[[dict, str], tuple[int, ...]] | None = None

    def contexts(self, ids: Sequence[int], corpus: bool = False) -> list[dict]:
        return [self.shown(i, self._view(i)) for i in ids]

    def _view(self, index: int) -> str:
        return self.view or self.rows[index].get("view", "scene")

    def sized(self, index: int, view: str = "") -> dict:
        """As `shown`, but what is seen has no values, if its shape is known without a look."""
        view = view or self._view(index)
        if self.shape is None:
            return self.shown(index, view)
        seen = torch.empty(self.shape(self.rows[index], view), device="meta")
        return {"prompt": self.rows[index]["prompt"], "seen": seen, "rate": self.rate}

    def shown(self, index: int, view: str) -> dict:
        """The question beside its `scene` or its `crop`. Raises UserError for a crop of what has none."""
        look = self.crop if view == "crop" else self.scene
        if look is None:
            raise UserError(self.place, "these pictures say nothing of the part that tells the answer: no crop is known")
        return {"prompt": self.rows[index]["prompt"], "seen": look(self.rows[index]), "rate": self.rate}

    def taken(self, rows: Trajectory) -> list[str]:
        return self.show(rows)

    def written(
        self, column: str, loss_on: str = "response", corpus: bool = False, ids: Sequence[int] | None = None
    ) -> Trajectory:
        if loss_on != "response":
            raise UserError("loss_on", "pictures are no decisions: expected response")
        return super().written(column, loss_on, corpus, ids)
