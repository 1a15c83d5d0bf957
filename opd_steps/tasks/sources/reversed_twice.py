"""Digits written backwards, twice: a draft, and an answer that repeats it. Who sees some of the answer knows more of the draft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class ReversedTwice(Source):
    """Prompt `4821>`, solution `12841284`, which is the answer. In the corpus a share `slips` of the texts have another digit at one place of
    the draft, and the answer repeats it.
    """

    digits: Annotated[int, "at least 1"] = 8
    slips: Annotated[float, "0 to 1"] = 0.15
    train: Annotated[int, "at least 1"] = 4096
    test: Annotated[int, "at least 0"] = 128
    ood: Annotated[int, "at least 0"] = 64

    def rows(self, seed: int) -> dict[str, list[dict]]:
        counts, draw = (self.test, self.ood, self.train), rng(seed, "reversed twice")
        if sum(counts) > 10**self.digits:
            what = f"{sum(counts)} rows asked for, and {self.digits} digits make {10**self.digits} prompts"
            raise UserError("reversed_twice", what)
        found: dict[str, dict] = {}
        while len(found) < sum(counts):
            digits = draw.integers(0, 10, self.digits)
            slip = np.arange(self.digits) == draw.integers(self.digits) if draw.random() < self.slips else 0
            wrong = (digits + slip * draw.integers(1, 10)) % 10
            right, told = ("".join(map(str, d[::-1])) * 2 for d in (digits, wrong))
            prompt = "".join(map(str, digits)) + ">"
            found[prompt] = row(prompt, right, right, told)
        rows = list(found.values())
        return splits(rows[self.test + self.ood :], rows[: self.test], rows[self.test : self.test + self.ood])
