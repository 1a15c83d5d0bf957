"""Calibration of stated confidences: how well they foretell which answers are right."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from statistics import fmean

BINS = 10


def calibration(confidences: Sequence[float], correct: Sequence[float]) -> dict[str, float]:
    """Figures over n samples with confidences c_i in [0, 1] and correctness y_i in {0, 1} (arXiv 2604.16830):

        confidence      mean c
        overconfidence  mean c - mean y; positive: more confident than right
        brier           mean (c - y)^2
        ece             sum over 10 equal bins of n_b / n * |mean c - mean y| within the bin; [0, .1), ..., [.9, 1]
        spr             P(c of a right sample > c of a wrong one), over all pairs, ties count 0

    spr is left out where there is no pair, all are without samples. Raises ValueError for a confidence outside [0, 1].
    """
    if bad := [c for c in confidences if not 0 <= c <= 1]:
        raise ValueError(f"a confidence lies between 0 and 1, not {bad[0]}")
    if not confidences:
        return {}
    pairs = list(zip(confidences, correct, strict=True))
    bins: dict[int, list[tuple[float, float]]] = {}
    for c, y in pairs:
        bins.setdefault(min(int(BINS * c + 1e-9), BINS - 1), []).append((c, y))  # 10 * .3 may fall short of 3
    gaps = [abs(sum(c - y for c, y in rows)) for rows in bins.values()]
    found = {
        "confidence": fmean(confidences),
        "overconfidence": fmean(c - y for c, y in pairs),
        "brier": fmean((c - y) ** 2 for c, y in pairs),
        "ece": sum(gaps) / len(pairs),
    }
    right, wrong = [c for c, y in pairs if y], sorted(c for c, y in pairs if not y)
    if right and wrong:
        found["spr"] = sum(bisect_left(wrong, c) for c in right) / (len(right) * len(wrong))
    return found
