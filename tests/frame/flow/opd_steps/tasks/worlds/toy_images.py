"""Images of a few stripes: a label each, judged by how near the last latent is to its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class ToyImages(World):
    """side x side pixels; label k has a bright column k. Right: mean squared distance to that image below `near`."""

    side: Annotated[int, "at least 2"] = 4
    near: Annotated[float, "above 0"] = 0.5
    train: Annotated[int, "at least 1"] = 32
    test: Annotated[int, "at least 1"] = 16

    def write(self, job: Job) -> dict:
        counts = {"train": self.train, "test": self.test, "ood": self.test}
        for split, count in counts.items():
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", "label": i % self.side} for i in range(count)])
        return {"splits": counts}

    def pool(self, folder: Path, split: str, policy: Policy, limit: int = 0) -> ImagePool:
        labels = [row["label"] for row in read_jsonl(folder / f"{split}.jsonl")]
        return ImagePool(self, labels[: limit or None], policy.family.steps, str(folder))


class ImagePool(Pool):
    def __init__(self, world: ToyImages, labels: list[int], steps: int, place: str):
        self.world, self.labels, self.steps, self.place = world, labels, steps, place

    def __len__(self) -> int:
        return len(self.labels)

    def contexts(self, ids: Sequence[int]) -> list[int]:
        return [self.labels[i] for i in ids]

    def image(self, label: int) -> Tensor:
        image = torch.full((self.world.side, self.world.side), -1.0)
        image[:, label] = 1.0
        return image.flatten()

    def rewards(self, rows: Trajectory) -> list[float]:
        ends = [actions[-1] for actions in rows.actions]
        gaps = [float((x - self.image(c)).square().mean()) for x, c in zip(ends, rows.contexts, strict=True)]
        return [float(gap < self.world.near) for gap in gaps]

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        """Straight lines from noise to the image."""
        if column != "solution":
            raise UserError(self.place, f"no column '{column}'; found solution")
        states, actions = [], []
        for i, label in enumerate(self.labels):
            start = torch.tensor(rng("noise", i).standard_normal(self.world.side**2), dtype=torch.float32)
            path = torch.stack([start.lerp(self.image(label), t / self.steps) for t in range(self.steps + 1)])
            states.append(path[:-1])
            actions.append(path[1:])
        return Trajectory(list(self.labels), actions, torch.arange(len(self)), extra={"latents": states})
