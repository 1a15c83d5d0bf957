from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.teachers.contexts import TeacherContext


@dataclass(frozen=True)
class Suffix(TeacherContext):
    """The teacher of a masked language model also sees what the row's own text says further on: of the places behind the current block a
    uniform share, rounded down, drawn for each state anew (d-OPSD's suffix conditioning, arXiv 2606.18195, rho .25).
    """

    UNCARRIED: ClassVar[str] = "it trains causal language models"

    share: Annotated[float, "0 to 1"] = 0.25

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        column = []
        for b, (places_T, steps_T) in enumerate(zip(rows.extra["places"], rows.extra["steps"], strict=True)):
            size, block = len(rows.extra["text"][b]), rows.extra["block"][b]
            states = []
            for step in steps_T.unique().tolist():
                first = (int(places_T[steps_T == step][0]) // block + 1) * block
                order = rng(seed, "suffix", name, int(rows.version_B[b]), b, step).permutation(size - first)
                shown = torch.from_numpy(first + order[: int(self.share * (size - first))])
                states.append(torch.zeros(size, dtype=torch.bool).index_fill(0, shown, True))
            column.append(torch.stack(states))
        return rows.with_columns(extra=rows.extra | {f"shown:{name}": column})
