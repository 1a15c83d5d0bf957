"""Rows for a critic: those of the student, labelled 0, and as many of the data set, labelled 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from opd_steps.loop.batches import fixed_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class ToyLabelled(PrefixSource):
    """One decision a row: what it is."""

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True

    column: str = "solution"

    def rows(self, draw: Draw) -> Batch:
        own = draw.made[""].rows
        real = fixed_rows(draw.texts(self.column), draw.seed, draw.step, len(own)).rows
        whole = [[*c, *a.tolist()] for rows in (own, real) for c, a in zip(rows.contexts, rows.actions, strict=True)]
        labels = [torch.tensor([label]) for label, rows in ((0, own), (1, real)) for _ in range(len(rows))]
        prompts = torch.cat([own.prompt_B, real.prompt_B])
        return Batch(Trajectory(whole, labels, prompts))
