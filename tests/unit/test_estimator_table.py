"""docs/estimators.md is what the production estimators give today, and its short advice follows from the same figures."""

from __future__ import annotations

import difflib

import pytest

from tests.estimator_table import page, rows
from tests.estimator_table.measure import Moments, Pairs, cosine, moments, stream
from tests.estimator_table.verdict import median, number, optimises

PAIRS = Pairs.draw()


def found(stale: bool = False, **options) -> Moments:
    return moments(stream(**options), PAIRS, stale)


def toward_rkl(**options) -> tuple[float, float]:
    """Cosine with the exact reverse-KL gradient: median, worst pair."""
    value_P = cosine(found(**options).mean_PV, PAIRS.rkl_PV)
    return median(value_P), float(value_P.min())


def test_the_page_is_up_to_date():
    old, new = page.PATH.read_text().splitlines(), page.render().splitlines()
    drift = list(difflib.unified_diff(old, new, "docs/estimators.md", "now", lineterm="", n=0))
    assert drift == [], "run `python -m tests.estimator_table`\n" + "\n".join(drift)


@pytest.mark.parametrize(
    ("row", "target"),
    [
        (rows.pg(), "RKL"),
        (rows.pg(baseline="neg_kl"), "RKL"),
        (rows.pg(baseline=rows.TOPK_BASELINE), "RKL"),
        (rows.pg(baseline="optimal"), "RKL"),
        (rows.Row({"estimator": "k2"}), "RKL"),
        (rows.Row({"estimator": "k3_plus"}), "RKL"),
        (rows.Row({"estimator": "k3"}), "FKL"),
        (rows.Row({"estimator": "k3_clamped"}), "neither"),
        (rows.Row({"estimator": "k1"}), "**0**"),
        (rows.pg(signal="fkl"), "FKL"),
        (rows.pg(signal="jsd"), "its own: jsd"),
        (rows.pg(ratio="sampler", stale=True), "RKL"),
        (rows.pg(stale=True), "neither"),
    ],
    ids=lambda x: x.label if isinstance(x, rows.Row) else x,
)
def test_verdicts(row, target):
    assert optimises(row, found(row.stale, **row.options).mean_PV, PAIRS) == target


def test_advice_on_baselines():
    vanilla_P = found().variance_P
    kl_P, best_P = (found(baseline=b).variance_P / vanilla_P for b in ("neg_kl", "optimal"))
    assert median(best_P) < median(kl_P) < 1 < float(kl_P.max()) and float(best_P.max()) <= 1 + 1e-12


def test_advice_on_sets():
    on = lambda support, norm: {"estimator": "exact", "signal": "rkl", "support": rows.on(support, norm)}
    union, student, teacher = (toward_rkl(**on(s, "tail")) for s in ("union", "student_topk", "teacher_topk"))
    assert union[0] > student[0] > teacher[0] and union[1] > student[1] > teacher[1] > 0
    for norm in ("raw", "renormalise"):
        assert toward_rkl(**on("teacher_topk", norm))[1] < 0
    forward = found(estimator="exact", signal="fkl", support=rows.on("teacher_topk", "tail")).mean_PV
    assert float(cosine(forward, PAIRS.fkl_PV).min()) > teacher[1]


def test_advice_on_stale_samples():
    capped, masked, clipped = (
        toward_rkl(stale=True, estimator={"name": "pg", "ratio": "sampler", **bound})
        for bound in ({"is_cap": 2.0}, {"mask_low": 0.5, "mask_high": 2.0}, {"clip_low": 0.2, "clip_high": 0.2})
    )
    assert capped[1] > 0.9 > masked[1] > 0 > clipped[1]


def test_rows_are_told_apart():
    table = [*rows.SAMPLED, *rows.FULL, *rows.TOPK, *rows.CHANGED, *rows.OFF_POLICY]
    assert len({(r.label, r.stale, r.who) for r in table}) == len(table)


def test_numbers_read_the_same_everywhere():
    assert [number(x) for x in (0, 1e-15, 0.5, -0.456, 12.34, 1.0, 0.003)] == ["0", "0", ".50", "-.46", "12.3", "1.00", "3e-3"]
