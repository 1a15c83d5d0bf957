"""Intervals over a handful of seeds: Student's t for means, order statistics for medians, the exact sign test."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from scipy.special import bdtr, stdtr, stdtrit

LEVEL = 0.95


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % Student-t interval of the mean, t(n-1) s / sqrt(n); None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    return float(stdtrit(n - 1, (1 + LEVEL) / 2)) * statistics.stdev(values) / n**0.5


def t_test(differences: Sequence[float]) -> tuple[float, list[float] | None, float | None]:
    """(mean, its 95 % interval, two-sided p) of paired differences; no interval and no p for fewer than two.

    Without any spread the interval is the one point and p is 0, or 1 where that point is 0.
    """
    mean, half = statistics.fmean(differences), half_width(differences)
    if half is None:
        return mean, None, None
    n, spread = len(differences), statistics.stdev(differences)
    p = 2 * float(stdtr(n - 1, -abs(mean) * n**0.5 / spread)) if spread else float(mean == 0)
    return mean, [mean - half, mean + half], p


def sign_test(differences: Sequence[float]) -> tuple[float, list[float] | None, float | None]:
    """(median, its interval, two-sided p) of paired differences.

    p is the exact binomial one, ties left out. The interval is between order statistics, the narrowest symmetric pair
    with at least 95 % coverage whatever the distribution; it needs 6 values, as does p < 5 %.
    """
    ordered, n = sorted(differences), len(differences)
    ups, downs = sum(d > 0 for d in ordered), sum(d < 0 for d in ordered)
    p = min(1.0, 2 * float(bdtr(min(ups, downs), ups + downs, 0.5))) if ups + downs else 1.0
    cut = max((k for k in range(1, n // 2 + 1) if 2 * bdtr(k - 1, n, 0.5) <= 1 - LEVEL), default=0)
    interval = [ordered[cut - 1], ordered[n - cut]] if cut else None
    return statistics.median(ordered), interval, p if n >= 2 else None
