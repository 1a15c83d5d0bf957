"""Calibration figures against closed forms and counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.tasks.calibration import calibration

TENTHS = st.integers(0, 10).map(lambda i: i / 10)
SAMPLES = st.lists(st.tuples(TENTHS, st.sampled_from([0.0, 1.0])), min_size=1, max_size=30)


def figures(pairs):
    return calibration(*zip(*pairs, strict=True))


def test_always_sure_is_off_by_the_error_rate():
    found = figures([(1.0, 1.0)] * 3 + [(1.0, 0.0)])
    assert found == {"confidence": 1.0, "overconfidence": 0.25, "brier": 0.25, "ece": 0.25, "spr": 0.0}


def test_always_unsure_is_off_by_the_accuracy():
    assert figures([(0.0, 1.0), (0.0, 0.0)]) == {"confidence": 0, "overconfidence": -0.5, "brier": 0.5, "ece": 0.5, "spr": 0}


def test_oracle():
    assert figures([(1.0, 1.0), (0.0, 0.0)]) == {"confidence": 0.5, "overconfidence": 0, "brier": 0, "ece": 0, "spr": 1}


def test_a_calibrated_group_has_no_ece_and_the_brier_score_of_its_variance():
    found = figures([(0.3, 1.0)] * 3 + [(0.3, 0.0)] * 7)
    assert found["ece"] == pytest.approx(0, abs=1e-12) and found["overconfidence"] == pytest.approx(0, abs=1e-12)
    assert found["brier"] == pytest.approx(0.3 * 0.7) and found["spr"] == 0


def test_each_tenth_has_its_own_bin_but_the_last_two():
    for i in range(10):
        low, high = i / 10, (i + 1) / 10
        apart = figures([(low, 1.0), (high, 0.0)])["ece"]
        together = abs(low + high - 1) / 2
        assert apart == pytest.approx(together if i == 9 else ((1 - low) + high) / 2), i


def test_without_a_pair_there_is_no_spr_and_without_samples_nothing():
    assert "spr" not in figures([(0.5, 1.0)]) and "spr" not in figures([(0.5, 0.0)])
    assert calibration([], []) == {}


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_refuses_what_is_no_confidence(value):
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration([value], [1.0])


@given(SAMPLES)
def test_against_counting(pairs):
    found = figures(pairs)
    right, wrong = [c for c, y in pairs if y], [c for c, y in pairs if not y]
    if right and wrong:
        assert found["spr"] == pytest.approx(sum(r > w for r in right for w in wrong) / len(right) / len(wrong))
    assert abs(found["overconfidence"]) - 1e-9 <= found["ece"] <= 1
    ece = 0.0
    for low in range(10):
        inside = [(c, y) for c, y in pairs if min(round(10 * c), 9) == low]
        if inside:
            mean_c, mean_y = (sum(column) / len(inside) for column in zip(*inside, strict=True))
            ece += len(inside) / len(pairs) * abs(mean_c - mean_y)
    assert found["ece"] == pytest.approx(ece)
