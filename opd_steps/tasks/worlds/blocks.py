"""Images of a coloured block, asked for by one of its traits at a time: a task for each trait."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.pictures import CELLS, COLOURS, GROUNDS, block
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.picture_pool import PicturePool

TASKS = ("first", "second", "third")
VALUES = {"colour": tuple(COLOURS)[:4], "cell": CELLS, "ground": tuple(GROUNDS)}
SAID = {"colour": "{} block", "cell": "block {}", "ground": "{} ground"}


@dataclass(frozen=True)
class Blocks(World):
    """Prompts name the trait of their task (column `task`: first, second, third); the others are free. Outcome: how likely the image has
    the trait, against all clean images (tasks/picture_pool.py).

    What it writes: `solution`, an image with the trait; `corpus`, of which a share `wrong` has any value of it.
    """

    CODE: ClassVar[tuple[str, ...]] = ("tasks/picture_pool.py",)

    first: Literal["colour", "cell", "ground"] = "colour"
    second: Literal["colour", "cell", "ground"] = "cell"
    third: Literal["none", "colour", "cell", "ground"] = "none"
    only: Literal["all", "first", "second", "third"] = "all"  # the one task of the train rows
    wrong: Annotated[float, "0 to 1"] = 0.4
    sharp: Annotated[float, "above 0"] = 0.1
    draws: Annotated[int, "at least 1"] = 4  # times at which a written image is learned from
    train: Annotated[int, "at least 1"] = 4096
    test: Annotated[int, "at least 1"] = 128

    CHECKS: ClassVar[tuple[str, ...]] = (
        "first != second",
        "first != third",
        "second != third",
        "only != 'third' or third != 'none'",
    )

    @property
    def _traits(self) -> dict[str, str]:
        found = zip(TASKS, (self.first, self.second, self.third), strict=True)
        return {task: trait for task, trait in found if trait != "none"}

    def write(self, job: Job) -> dict:
        counts = {"train": self.train, "test": self.test, "ood": self.test}
        for split, count in counts.items():
            tasks = [self.only] if self.only != "all" and split == "train" else list(self._traits)
            rows = (self._row(tasks[i % len(tasks)], rng(job.seed, "blocks", split, i)) for i in range(count))
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", **row} for i, row in enumerate(rows)])
        return {"splits": counts}

    def _row(self, task: str, draw: np.random.Generator) -> dict:
        trait = self._traits[task]
        used = {**VALUES, "ground": VALUES["ground"] if "ground" in self._traits.values() else ("dark",)}
        any_of = lambda name: used[name][draw.integers(len(used[name]))]
        row = {name: any_of(name) for name in used}
        stray = any_of(trait) if draw.random() < self.wrong else row[trait]
        return {"task": task, "trait": trait, "prompt": SAID[trait].format(row[trait]), "stray": stray, **row}

    def pool(self, folder: Path, split: str, policy: FlowPolicy, limit: int = 0) -> PicturePool:
        from opd_steps.tasks.picture_pool import PicturePool

        rows = read_jsonl(folder / f"{split}.jsonl")[: limit or None]
        grounds = VALUES["ground"] if "ground" in self._traits.values() else ("dark",)
        kinds = {traits: picture(*traits) for traits in product(VALUES["colour"], VALUES["cell"], grounds)}
        place = list(VALUES)
        fits = lambda row: {traits for traits in kinds if traits[place.index(row["trait"])] == row[row["trait"]]}
        images = {
            "solution": lambda row: picture(*(row[name] for name in VALUES)),
            "corpus": lambda row: picture(*({**row, row["trait"]: row["stray"]}[name] for name in VALUES)),
        }
        return PicturePool(policy, rows, images, kinds, fits, self.sharp, self.draws)


def picture(colour: str, cell: str, ground: str):
    return block(colour, CELLS.index(cell), ground)
