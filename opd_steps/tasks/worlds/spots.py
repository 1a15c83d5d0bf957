"""Pictures with one bright thing among dim ones: what is its colour?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.seen import asked, grown
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.models.vl_policy import VLPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.seen_pool import SeenPool

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
CROP = 2  # cells of its side


@dataclass(frozen=True)
class Spots(World):
    """A picture of cells x cells cells. One of them holds a bright spot, whose colour is the answer, `dim` others hold faint ones. Its crop
    is the part of 2 x 2 cells about the bright one (`box`: top, left, bottom, right in pixels), as large as the picture.

    view   what the train rows show: `scene`, `crop`, or `both`, in turn; test and ood show the scene
    """

    READS: ClassVar[tuple[str, ...]] = ("verifier",)
    CODE: ClassVar[tuple[str, ...]] = ("tasks/seen_pool.py",)
    CHECKS: ClassVar[tuple[str, ...]] = ("dim < cells * cells",)

    cells: Annotated[int, "at least 2"] = 8
    pixels: Annotated[int, "at least 1"] = 4  # of a cell's side
    dim: Annotated[int, "at least 0"] = 3
    faint: Annotated[float, "0 to 1"] = 0.4  # brightness of the dim ones
    view: Literal["scene", "crop", "both"] = "scene"
    train: Annotated[int, "at least 1"] = 4096
    test: Annotated[int, "at least 1"] = 128

    def write(self, job: Job) -> dict:
        counts = {"train": self.train, "test": self.test, "ood": self.test}
        for split, count in counts.items():
            rows = (self._row(split, i, rng(job.seed, "spots", split, i)) for i in range(count))
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", **row} for i, row in enumerate(rows)])
        return {"splits": counts, **asked(job)}

    def _row(self, split: str, index: int, draw: np.random.Generator) -> dict:
        """`spots`: [down, right, colour] in cells, the bright one first."""
        names, size = list(COLOURS), self.cells
        places = draw.choice(size**2, self.dim + 1, replace=False)
        spots = [[int(place) // size, int(place) % size, names[draw.integers(len(names))]] for place in places]
        corner = [min(max(at - int(draw.integers(CROP)), 0), size - CROP) for at in spots[0][:2]]
        box = [x * self.pixels for x in (*corner, corner[0] + CROP, corner[1] + CROP)]
        said, view = spots[0][2], ("scene", "crop")[index % 2] if self.view == "both" else self.view
        row = {"prompt": "colour", "answer": said, "solution": said, "corpus": said, "spots": spots, "box": box}
        return row | {"view": view if split == "train" else "scene"}

    def pool(self, folder: Path, split: str, policy: VLPolicy, limit: int = 0) -> SeenPool:
        from opd_steps.tasks.seen_pool import SeenPool

        return SeenPool.load(folder, split, policy.tokenizer, limit, scene=self.picture, crop=self.crop)

    def picture(self, row: dict) -> Tensor:
        import torch

        found = torch.zeros(3, self.cells, self.cells)
        for i, (down, right, colour) in enumerate(row["spots"]):
            found[:, down, right] = torch.tensor(COLOURS[colour]) * (self.faint if i else 1.0)
        return grown((found * 255).round().to(torch.uint8), self.pixels)[None]

    def crop(self, row: dict) -> Tensor:
        top, left, bottom, right = row["box"]
        return grown(self.picture(row)[0, :, top:bottom, left:right], self.cells // CROP)[None]
