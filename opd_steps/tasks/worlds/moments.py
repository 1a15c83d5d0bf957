"""Videos in which two colours light up, one after the other: when is the one that is asked for?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.seen import asked
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.models.vl_policy import VLPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.seen_pool import SeenPool

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
NOISY = "yellow"
PACE = 2  # frames of a second


@dataclass(frozen=True)
class Moments(World):
    """Videos of `seconds` seconds. The question is a colour; the answer `start-end`, in whole seconds from when to when the picture has it.
    Another colour lights up before or behind it; how bright all is changes from frame to frame.

    What it writes: `solution`, the right answer; `corpus`, in which a share `noise` of the answers about yellow is any interval.
    """

    READS: ClassVar[tuple[str, ...]] = ("verifier",)
    CODE: ClassVar[tuple[str, ...]] = ("tasks/seen_pool.py",)

    seconds: Annotated[int, "5 to 10"] = 8
    side: Annotated[int, "at least 2"] = 8  # pixels
    noise: Annotated[float, "0 to 1"] = 1.0
    train: Annotated[int, "at least 1"] = 4096
    test: Annotated[int, "at least 1"] = 128

    def write(self, job: Job) -> dict:
        counts = {"train": self.train, "test": self.test, "ood": self.test}
        for split, count in counts.items():
            rows = (self._row(rng(job.seed, "moments", split, i)) for i in range(count))
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", **row} for i, row in enumerate(rows)])
        return {"splits": counts, **asked(job)}

    def _row(self, draw: np.random.Generator) -> dict:
        """`events`: [colour, start, end], the one that is asked for first; `light`: the seed of the brightness."""
        names = [list(COLOURS)[i] for i in draw.choice(len(COLOURS), 2, replace=False)]
        at = sorted(int(x) for x in draw.choice(self.seconds, 4, replace=False))
        spans = [at[:2], at[2:]] if draw.random() < 0.5 else [at[2:], at[:2]]
        events = [[name, *span] for name, span in zip(names, spans, strict=True)]
        right = "{}-{}".format(*spans[0])
        stray = "{}-{}".format(*sorted(int(x) for x in draw.choice(self.seconds, 2, replace=False)))
        told = stray if names[0] == NOISY and draw.random() < self.noise else right
        row = {"prompt": names[0], "answer": right, "solution": right, "corpus": told}
        return row | {"events": events, "light": int(draw.integers(1 << 31))}

    def pool(self, folder: Path, split: str, policy: VLPolicy, limit: int = 0) -> SeenPool:
        from opd_steps.tasks.seen_pool import SeenPool

        return SeenPool.load(folder, split, policy.tokenizer, limit, scene=self.video, rate=float(PACE))

    def video(self, row: dict) -> Tensor:
        import torch

        count = self.seconds * PACE
        light_T = torch.from_numpy(rng(row["light"], "light").random(count)).float()
        found = (light_T * 0.3)[:, None].repeat(1, 3)
        for colour, start, end in row["events"]:
            lit = slice(start * PACE, end * PACE)
            found[lit] = torch.tensor(COLOURS[colour]) * (0.7 + 0.3 * light_T[lit, None])
        return (found * 255).round().to(torch.uint8)[:, :, None, None].repeat(1, 1, self.side, self.side)
