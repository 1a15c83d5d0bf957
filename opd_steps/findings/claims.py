"""Judging a claim `left op right`: a direction, paired by seed, decided by an interval and by nothing that could be tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from opd_steps.findings.stats import LEVEL, sign_test, t_test

HOLDS, FAILS, OPEN, UNMEASURED = "holds", "does not hold", "not enough evidence", "not measured"
VERDICTS = (HOLDS, FAILS, OPEN, UNMEASURED)
MIN_SEEDS = 5
LARGEST = 1e100  # of a difference whose square is still a number

Values = Mapping[int, float | None]


@dataclass(frozen=True)
class Verdict:
    """What the seeds say. `effect` and `interval` are left minus right: the mean (t) or median (sign) paired difference."""

    verdict: str
    reason: str
    n: int = 0
    effect: float | None = None
    interval: list[float] | None = None
    p: float | None = None


def verdict(left: Values, right: Values | float, op: Literal["<", ">"], test: Literal["t", "sign"] = "t") -> Verdict:
    """Judge `left op right` by the paired differences left[seed] - right[seed] (or left[seed] - right, a number).

    - `t`: the 95 % Student-t interval of the mean difference lies wholly on the claimed side: holds; wholly on the other
      side: does not hold; else not enough evidence.
    - `sign`: the exact two-sided binomial sign test at 5 %, ties left out; the median's side decides.
    - fewer than 5 seeds are never enough evidence; one missing or non-finite value means not measured, because a diverged
      seed must not drop out of the average in silence.
    """
    pairs = {seed: (left.get(seed), right.get(seed) if isinstance(right, Mapping) else right) for seed in _seeds(left, right)}
    bad = sorted(seed for seed, pair in pairs.items() if any(v is None or not math.isfinite(v) for v in pair))
    if bad or not pairs:
        return Verdict(UNMEASURED, f"no finite value at seed {', '.join(map(str, bad))}" if pairs else "no seeds")
    differences = [_difference(*pair) for pair in pairs.values()]
    n = len(differences)
    if max(map(abs, differences)) > LARGEST:
        return Verdict(UNMEASURED, "the figures are too large to be compared")
    effect, interval, p = (t_test if test == "t" else sign_test)(differences)
    low, high = (interval or (-math.inf, math.inf)) if test == "t" else _sign_bounds(effect, p)
    wins, loses = (low > 0, high < 0) if op == ">" else (high < 0, low > 0)
    if n < MIN_SEEDS:
        found, reason = OPEN, f"{n} seed{'s' * (n > 1)}; a claim needs at least {MIN_SEEDS}"
    elif not any(differences):
        found, reason = OPEN, "both sides are equal at every seed"
    elif wins or loses:
        found, reason = HOLDS if wins else FAILS, _why(test, p)
    else:
        found, reason = OPEN, _why_not(test, p, n)
    return Verdict(found, reason, n, effect, interval, p)


def _seeds(left: Values, right: Values | float) -> list[int]:
    return sorted({*left, *(right if isinstance(right, Mapping) else ())})


def _difference(left: float, right: float) -> float:
    """left - right, where rounding error counts as a tie."""
    return 0.0 if math.isclose(left, right, rel_tol=1e-12) else left - right


def _sign_bounds(median: float, p: float | None) -> tuple[float, float]:
    significant = p is not None and p < 1 - LEVEL
    return (median, median) if significant else (-math.inf, math.inf)


def _why(test: str, p: float) -> str:
    return "the 95 % interval excludes 0" if test == "t" else f"sign test p = {p:.3g}"


def _why_not(test: str, p: float, n: int) -> str:
    if test == "t":
        return "the 95 % interval contains 0"
    return f"sign test p = {p:.3g}" + ("; it needs at least 6 seeds" if n < 6 else "")
