from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.selection import Selection


@dataclass(frozen=True)
class ByPassRate(Selection):
    """Prompts drawn with weight (rate (1 - rate))^power among those with low <= rate <= high (Uni-OPD's offline balance, arXiv 2605.03677).

    The rates are those of the node's `pass_rates`: the middle of the range, where the student sometimes succeeds, weighs most.
    """

    RATES: ClassVar[bool] = True
    CHECKS: ClassVar[tuple[str, ...]] = ("low <= high",)

    low: Annotated[float, "0 to 1"] = 0.01
    high: Annotated[float, "0 to 1"] = 0.99
    power: Annotated[float, "at least 0"] = 1.0

    def pick(self, size: int, seed: int, step: int, count: int, rates: dict[int, float]) -> list[int]:
        """`count` different prompts where there are as many. Raises UserError when no prompt lies in the range."""
        fit = sorted(i for i, rate in rates.items() if self.low <= rate <= self.high)
        if not fit:
            raise UserError("select", f"no prompt has a pass rate between {self.low} and {self.high}")
        weight = np.array([max(rates[i] * (1 - rates[i]), 1e-6) ** self.power for i in fit])
        draw = rng(seed, "by_pass_rate", step).choice(len(fit), count, replace=len(fit) < count, p=weight / weight.sum())
        return [fit[int(i)] for i in draw]
