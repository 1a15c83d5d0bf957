"""Made-up prompts, what judges their answers, and rows that nobody sampled; for policies of tests.unit.tiny."""

from __future__ import annotations

import torch

from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng

VOCAB = 20


class ToyPool(Pool):
    """Prompt i is a few token ids; an answer is right when the sum of its tokens is even."""

    def __init__(self, size: int = 7):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def contexts(self, picks) -> list[list[int]]:
        return [[1 + i % 3, 2, 3 + i][: 2 + i % 2] for i in picks]

    def rewards(self, rows: Trajectory) -> list[float]:
        return [float(int(a.sum()) % 2 == 0) for a in rows.actions]

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        return solutions()


def solutions(rows: int = 9) -> Trajectory:
    """Rows of a data set: nobody sampled them."""
    actions = [torch.from_numpy(rng("solutions", i).integers(1, VOCAB - 2, 2 + i % 3)) for i in range(rows)]
    return Trajectory(ToyPool(rows).contexts(range(rows)), actions, torch.arange(rows))
