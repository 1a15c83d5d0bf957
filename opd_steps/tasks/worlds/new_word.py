"""A word that a flow does not know: it can make what it is shown, and is to make it when it is only told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.pictures import CELLS, COLOURS, block
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.picture_pool import PicturePool

NEW, KNOWN = "zorp", tuple(COLOURS)[:4]
ROWS = {"north": (0, 1), "south": (2, 3)}
TASKS = {"new": "first", "old": "second"}


@dataclass(frozen=True)
class NewWord(World):
    """Prompts `<colour> <north|south>` for a block in one of the two quarters there. The task first is about the word zorp, which means
    magenta, second about four colours that are known. test: the new word; ood: the old ones.

    part: base   train rows to pretrain on: a half shows the image beside its prompt, then the block has any colour, whatever the word
                 is, zorp too; a half tells of known colours alone
    part: new    a few images of the new word
    """

    CODE: ClassVar[tuple[str, ...]] = ("tasks/picture_pool.py",)

    part: Literal["base", "new"] = "base"
    sharp: Annotated[float, "above 0"] = 0.1
    draws: Annotated[int, "at least 1"] = 4  # times at which a written image is learned from
    train: Annotated[int, "at least 1"] = 4096
    test: Annotated[int, "at least 1"] = 128

    def write(self, job: Job) -> dict:
        counts = {"train": self.train, "test": self.test, "ood": self.test}
        for split, count in counts.items():
            rows = (self._row(split, i, rng(job.seed, "new word", self.part, split, i)) for i in range(count))
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", **row} for i, row in enumerate(rows)])
        return {"splits": counts}

    def _row(self, split: str, index: int, draw: np.random.Generator) -> dict:
        pictured = split == "train" and self.part == "base" and index % 2 == 0
        new = split == "test" or (split == "train" and self.part == "new")
        words = (*KNOWN, NEW) if pictured else (NEW,) if new else KNOWN
        word, place = words[draw.integers(len(words))], tuple(ROWS)[draw.integers(2)]
        rgb = draw.uniform(-1, 1, 3).tolist() if pictured else list(COLOURS[meaning(word)])
        task = TASKS["new" if word == NEW else "old"]
        cell = ROWS[place][draw.integers(2)]
        row = {"task": task, "prompt": f"{word} {place}", "word": word, "place": place, "rgb": rgb, "cell": cell}
        return row | ({"pictured": pictured} if split == "train" and self.part == "base" else {})

    def pool(self, folder: Path, split: str, policy: FlowPolicy, limit: int = 0) -> PicturePool:
        from opd_steps.tasks.picture_pool import PicturePool

        rows = read_jsonl(folder / f"{split}.jsonl")[: limit or None]
        kinds = {(colour, cell): block(colour, i) for colour in COLOURS for i, cell in enumerate(CELLS)}
        fits = lambda row: {(meaning(row["word"]), CELLS[i]) for i in ROWS[row["place"]]}
        image = lambda row: block(row["rgb"], row["cell"])
        return PicturePool(policy, rows, {"solution": image, "corpus": image}, kinds, fits, self.sharp, self.draws)


def meaning(word: str) -> str:
    return "magenta" if word == NEW else word
