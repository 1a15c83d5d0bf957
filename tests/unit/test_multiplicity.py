"""How many claims would be decided by chance, and the correction of Benjamini and Hochberg, by hand."""

from __future__ import annotations

import pytest

from opd_steps.findings.claims import FAILS, HOLDS, OPEN, UNMEASURED, UNTESTABLE
from opd_steps.findings.multiplicity import Chance, chance, corrected


def claim(p: float | None, verdict: str | None = None, n: int = 6) -> dict:
    return {"direction": {"verdict": verdict or (HOLDS if p < 0.05 else OPEN), "p": p, "n": n}}


def test_five_p_values_by_hand():
    """Sorted .005 .01 .02 .045 .2, times 5 / rank: .025 .025 .0333 .05625 .2."""
    found = corrected([claim(0.01), claim(0.045), claim(0.02, FAILS), claim(0.005), claim(0.2)])
    assert [each["p_adjusted"] for each in found] == pytest.approx([0.025, 0.05625, 0.1 / 3, 0.025, 0.2])
    assert [each["survives"] for each in found] == [True, False, True, True, False]
    assert chance(found) == Chance(tested=5, decided=4, by_chance=0.25, survive=3)


def test_a_later_rank_can_lower_an_earlier_one():
    """.04 .042 .045, times 3 / rank: .12 .063 .045; the smallest from there on is .045 for all."""
    found = corrected([claim(p) for p in (0.045, 0.04, 0.042)])
    assert [each["p_adjusted"] for each in found] == pytest.approx([0.045] * 3) and chance(found).survive == 3


def test_only_claims_that_were_tested_count():
    """What is not testable, not measured, or of too few seeds makes the correction of the others no harsher."""
    others = [claim(0.001, UNTESTABLE), claim(0.001, UNMEASURED), claim(0.001, OPEN, n=4), claim(None, OPEN, n=1)]
    found = corrected([*others, claim(0.04)])
    assert [each["p_adjusted"] for each in found] == [None, None, None, None, pytest.approx(0.04)]
    assert [each["survives"] for each in found] == [False] * 4 + [True]
    assert chance(found) == Chance(1, 1, 0.05, 1)
    assert chance(corrected(others)) == Chance(0, 0, 0.0, 0)
    assert corrected([]) == []


def test_no_spread_is_the_smallest_p():
    found = corrected([claim(0.0), claim(0.5), claim(1.0)])
    assert [each["p_adjusted"] for each in found] == pytest.approx([0.0, 0.75, 1.0])
