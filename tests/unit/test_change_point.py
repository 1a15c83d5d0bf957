"""The change-point detector: exact cases, the criterion by brute force, and its rates on planted series."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.objectives.change_point import change_point


def brute_force(x: list[float], least: int = 3) -> int | None:
    n, rss = len(x), lambda part: sum((v - sum(part) / len(part)) ** 2 for v in part)
    cuts = [t for t in range(least, n - least + 1) if sum(x[:t]) / t > sum(x[t:]) / (n - t)]
    if not cuts:
        return None
    bic0 = n * math.log(rss(x) / n) + math.log(n)
    bic1 = {t: n * math.log((rss(x[:t]) + rss(x[t:])) / n) + 3 * math.log(n) for t in cuts}
    best = min(bic1, key=bic1.get)
    return best if bic1[best] < bic0 else None


@pytest.mark.parametrize(
    ("series", "found"),
    [
        ([2, 2, 2, 0, 0, 0], 3),
        ([5.0] * 7 + [4.9] * 4, 7),
        ([0, 0, 0, 2, 2, 2], None),  # a rise is no release
        ([0.1 + 0.2] * 12, None),
        ([3, 3, 0, 0, 0, 0], 3),  # the nearest cut that leaves three: 6 ln(6/6) + 3 ln 6 < 6 ln(12/6) + ln 6
        ([3, 0, 0, 0, 0, 0], None),  # 6 ln(6/6) + 3 ln 6 > 6 ln(7.5/6) + ln 6
        ([2, 2, 0, 0], None),  # too short for three on each side
        ([1.0], None),
        ([], None),
    ],
)
def test_exact_series(series, found):
    assert change_point(torch.tensor(series, dtype=torch.float64)) == found


def test_options():
    x = torch.tensor([2.0, 2.0, 0.0, 0.0, 0.1])
    assert change_point(x) is None and change_point(x, least=2) == 2
    x = torch.tensor([1.1, 0.9, 1.0, 1.05, 0.1, 0.0, -0.1, 0.05])
    assert change_point(x, drop=1.9) == 4 and change_point(x, drop=2.1) is None  # the fall is 1.99 standard deviations


@given(st.integers(0, 10**6), st.integers(6, 25), st.floats(0, 3))
def test_it_is_the_criterion(seed, n, fall):
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[n // 2 :] -= fall
    assert change_point(x) == brute_force(x.tolist())
    assert change_point(3 * x + 7) == change_point(x)


@pytest.mark.parametrize(("n", "alarms", "found"), [(10, 0.09, 0.79), (20, 0.08, 0.86), (40, 0.05, 0.83)])
def test_rates_on_planted_series(n, alarms, found):
    """Rates of plain BIC in unit noise: false alarms, and a fall of 2 found to within one place; four standard errors."""
    generator, draws = torch.Generator().manual_seed(n), 1000
    noise = torch.randn(draws, n, generator=generator)
    false = sum(change_point(x) is not None for x in noise) / draws
    noise[:, n // 2 :] -= 2
    hits = sum(abs((change_point(x) or -9) - n // 2) <= 1 for x in noise) / draws
    assert false == pytest.approx(alarms, abs=4 * math.sqrt(alarms * (1 - alarms) / draws))
    assert hits == pytest.approx(found, abs=4 * math.sqrt(found * (1 - found) / draws))
