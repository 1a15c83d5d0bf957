"""Judging a claim `left op right`: paired by seed, decided by an interval and by nothing that could be tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from opd_steps.findings.stats import LEVEL, sign_test, t_test

HOLDS, FAILS, OPEN, UNMEASURED = "holds", "does not hold", "not enough evidence", "not measured"
UNTESTABLE = "not testable here"  # a precondition is not met, findings/preconditions.py
VERDICTS = (HOLDS, FAILS, OPEN, UNTESTABLE, UNMEASURED)
MIN_SEEDS = 5
LARGEST = 1e100  # of a difference whose square is still a number

Op = Literal["<", ">", "=", ">=", "<="]
Values = Mapping[int, float | None]


@dataclass(frozen=True)
class Verdict:
    """What the seeds say. `effect` and `interval` are left minus right: the mean (t) or median (sign) paired difference.

    `p`, two-sided, is of the difference at its border, of the nearer one where there are two: below 5 % the claim is decided.
    """

    verdict: str
    reason: str
    n: int = 0
    effect: float | None = None
    interval: list[float] | None = None
    p: float | None = None


def borders(op: Op, margin: float | None) -> list[float]:
    """What left - right must differ from for sure: 0 of > and <, -margin of >=, margin of <=, and both of =."""
    return {"=": lambda: [-margin, margin], ">=": lambda: [-margin], "<=": lambda: [margin]}.get(op, lambda: [0.0])()


def decide(op: Op, places: list[int]) -> str:
    """The verdict where left - right is surely above (1) or below (-1) each border, or neither (0).

    = holds between its two borders, does not hold outside of them, and is open across one (two one-sided tests).
    """
    if op == "=":
        low, high = places
        return HOLDS if low > 0 > high else FAILS if low < 0 or high > 0 else OPEN
    return {0: OPEN, 1: HOLDS, -1: FAILS}[places[0] if op.startswith(">") else -places[0]]


def stated(claim: dict) -> str:
    """A claim of a plan, or a precondition, as one line: "a.test/accuracy >= b.test/accuracy − 0.02"."""
    allowed = {"=": " ± ", ">=": " − ", "<=": " + "}.get(claim["op"])
    return f"{claim['left']['label']} {claim['op']} {claim['right']['label']}" + (
        f"{allowed}{claim['margin']:g}" if allowed else ""
    )


def verdict(
    left: Values, right: Values | float, op: Op, test: Literal["t", "sign"] = "t", margin: float | None = None
) -> Verdict:
    """Judge `left op right` by the paired differences left[seed] - right[seed] (or left[seed] - right, a number).

    - `t`: the 95 % Student-t interval of the mean difference lies wholly on the claimed side of the border: holds; wholly on
      the other side: does not hold; else not enough evidence.
    - `sign`: the exact two-sided binomial sign test at 5 %, ties left out; the median's side decides.
    - fewer than 5 seeds are never enough evidence; one missing or non-finite value means not measured, because a diverged
      seed must not drop out of the average in silence.
    """
    pairs = {seed: (left.get(seed), right.get(seed) if isinstance(right, Mapping) else right) for seed in _seeds(left, right)}
    bad = sorted(seed for seed, pair in pairs.items() if any(v is None or not math.isfinite(v) for v in pair))
    if bad or not pairs:
        return Verdict(UNMEASURED, f"no finite value at seed {', '.join(map(str, bad))}" if pairs else "no seeds")
    differences = [difference(*pair) for pair in pairs.values()]
    n = len(differences)
    if max(map(abs, differences)) > LARGEST:
        return Verdict(UNMEASURED, "the figures are too large to be compared")
    judge = t_test if test == "t" else sign_test
    effect, interval, _ = judge(differences)
    shifted = [[difference(d, border) for d in differences] for border in borders(op, margin)]
    tests = [judge(values) for values in shifted]
    p = None if n < 2 else max(p for _, _, p in tests)
    found = decide(op, [_place(test, *each) for each in tests])
    if n < MIN_SEEDS:
        found, reason = OPEN, f"{n} seed{'s' * (n > 1)}; a claim needs at least {MIN_SEEDS}"
    elif not all(map(any, shifted)):
        found, reason = OPEN, f"both sides are equal at every seed{' but for the margin' * (margin is not None)}"
    else:
        reason = (_by_interval if test == "t" else _by_sign)(found, op, margin, p, n)
    return Verdict(found, reason, n, effect, interval, p)


def _seeds(left: Values, right: Values | float) -> list[int]:
    return sorted({*left, *(right if isinstance(right, Mapping) else ())})


def difference(left: float, right: float) -> float:
    """left - right, where rounding error counts as a tie."""
    return 0.0 if math.isclose(left, right, rel_tol=1e-12) else left - right


def _place(test: str, effect: float, interval: list[float] | None, p: float | None) -> int:
    """Whether the difference lies surely above 0 (1), below it (-1), or neither."""
    if test == "t":
        low, high = interval or (-math.inf, math.inf)
        return (low > 0) - (high < 0)
    return (effect > 0) - (effect < 0) if p is not None and p < 1 - LEVEL else 0


def _by_interval(found: str, op: Op, margin: float | None, p: float, n: int) -> str:
    if op == "=":
        where = {HOLDS: "lies within", FAILS: "lies outside", OPEN: "reaches over an end of"}[found]
        return f"the 95 % interval {where} ±{margin:g}"
    return f"the 95 % interval {'contains' if found == OPEN else 'excludes'} {_shown(op, margin)}"


def _by_sign(found: str, op: Op, margin: float | None, p: float, n: int) -> str:
    against = f" against {_shown(op, margin)}" if margin is not None else ""
    return f"sign test{against} p = {p:.3g}" + ("; it needs at least 6 seeds" if found == OPEN and n < 6 else "")


def _shown(op: Op, margin: float | None) -> str:
    return f"±{margin:g}" if op == "=" else f"{borders(op, margin)[0]:g}".replace("-", "−")
