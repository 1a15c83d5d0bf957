"""Digits with their running sums: a text that a small model learns to the letter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class RunningSums(Source):
    """Prompt `4821=`, solution `44822415`: each digit, and the sum of all so far modulo 10. The answer is the solution."""

    digits: Annotated[int, "at least 1"] = 8
    train: Annotated[int, "at least 1"] = 4096
    test: Annotated[int, "at least 0"] = 128
    ood: Annotated[int, "at least 0"] = 64

    def rows(self, seed: int) -> dict[str, list[dict]]:
        counts, draw = (self.test, self.ood, self.train), rng(seed, "running sums")
        if sum(counts) > 10**self.digits:
            raise UserError(
                "running_sums", f"{sum(counts)} rows asked for, and {self.digits} digits make {10**self.digits} prompts"
            )
        found: dict[str, dict] = {}
        while len(found) < sum(counts):
            digits = draw.integers(0, 10, self.digits)
            sums = np.cumsum(digits) % 10
            text = "".join(f"{d}{s}" for d, s in zip(digits, sums, strict=True))
            prompt = "".join(map(str, digits)) + "="
            found[prompt] = row(prompt, text, text)
        rows = list(found.values())
        return splits(rows[self.test + self.ood :], rows[: self.test], rows[self.test : self.test + self.ood])
