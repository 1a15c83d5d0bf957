"""As good as, no worse than, no more than: verdicts against a margin, at its very ends."""

from __future__ import annotations

import math

import pytest

from opd_steps.findings.claims import FAILS, HOLDS, OPEN, borders, decide, stated, verdict
from opd_steps.findings.stats import t_test
from opd_steps.report.forest import WIDTH, forest
from opd_steps.seeds import rng

HALF = 1.963243  # of the 95 % t interval of five values one apart: t(4, .975) sqrt(2.5 / 5) = 2.776445 * .707107


def around(centre: float) -> dict[int, float]:
    return {seed: centre + seed - 2 for seed in range(5)}


@pytest.mark.parametrize(
    ("op", "centre", "margin", "found"),
    [
        ("=", 0, HALF + 1e-5, HOLDS),  # the interval just fits
        ("=", 0, HALF - 1e-5, OPEN),
        ("=", 0.1, HALF + 0.1 + 1e-5, HOLDS),
        ("=", 2 + HALF + 1e-5, 2, FAILS),  # it lies just outside
        ("=", 2 + HALF - 1e-5, 2, OPEN),
        ("=", -2 - HALF - 1e-5, 2, FAILS),
        (">=", HALF - 2 + 1e-5, 2, HOLDS),  # its lower end just above -2
        (">=", HALF - 2 - 1e-5, 2, OPEN),
        (">=", -2 - HALF - 1e-5, 2, FAILS),
        (">=", -2 - HALF + 1e-5, 2, OPEN),
        ("<=", 2 - HALF - 1e-5, 2, HOLDS),
        ("<=", 2 - HALF + 1e-5, 2, OPEN),
        ("<=", 2 + HALF + 1e-5, 2, FAILS),
        ("<=", 2 + HALF - 1e-5, 2, OPEN),
    ],
)
def test_the_interval_at_the_ends_of_a_margin(op, centre, margin, found):
    left = around(10 + centre)
    judged = verdict(left, 10.0, op, margin=margin)
    assert judged.verdict == found
    assert judged.effect == pytest.approx(centre) and judged.interval == pytest.approx([centre - HALF, centre + HALF], abs=1e-6)
    assert verdict(left, dict.fromkeys(left, 10.0), op, margin=margin) == judged


def test_p_is_against_the_nearer_border():
    """Student's t with 4 degrees of freedom: F(t) = 1/2 + 3/8 u (1 - u^2 / 12), u = t / sqrt(1 + t^2 / 4)."""

    def two_sided(t: float) -> float:
        u = abs(t) / math.sqrt(1 + t * t / 4)
        return 2 * (0.5 - 3 / 8 * u * (1 - u * u / 12))

    error = math.sqrt(2.5 / 5)
    assert (two_sided(3 / error), two_sided(1 / error)) == pytest.approx((0.0132356, 0.2301996), abs=1e-7)
    assert verdict(around(1), 0.0, ">").p == pytest.approx(two_sided(1 / error))
    assert verdict(around(1), 0.0, ">=", margin=2).p == pytest.approx(two_sided(3 / error))
    assert verdict(around(1), 0.0, "<=", margin=2).p == pytest.approx(two_sided(1 / error))
    assert verdict(around(1), 0.0, "=", margin=2).p == pytest.approx(two_sided(1 / error))
    assert verdict(around(-1), 0.0, "=", margin=2).p == pytest.approx(two_sided(1 / error))


@pytest.mark.parametrize("test", ["t", "sign"])
@pytest.mark.parametrize("op", ["<", ">", "=", ">=", "<="])
def test_decided_is_p_below_five_percent(op, test):
    draw, margin, seen = rng("claims", op, test), 0.6 if op not in "<>" else None, set()
    for _ in range(400):
        left = dict(enumerate(draw.normal(draw.uniform(-1.5, 1.5), draw.uniform(0.1, 1), 8).tolist()))
        found = verdict(left, 0.0, op, test, margin)
        assert (found.verdict != OPEN) == (found.p < 0.05)
        seen.add(found.verdict)
    assert seen == {HOLDS, FAILS, OPEN}


def test_equal_models_are_wrongly_called_unequal_or_worse_at_the_level():
    """Differences whose mean lies at the border: five in a hundred are decided, half of them as claimed (two-sided)."""
    draw, n = rng("at the border"), 2000
    found = [verdict(dict(enumerate(draw.normal(-0.5, 1, 6).tolist())), 0.0, ">=", margin=0.5).verdict for _ in range(n)]
    assert abs(found.count(HOLDS) / n - 0.025) < 0.011 and abs(found.count(FAILS) / n - 0.025) < 0.011  # three standard errors


def test_no_spread_with_a_margin():
    same = dict.fromkeys(range(5), 0.3)
    assert verdict(same, same, "=", margin=1e-6).verdict == HOLDS
    assert verdict(same, same, ">=", margin=1e-6).verdict == HOLDS
    at = verdict(same, dict.fromkeys(range(5), 0.5), ">=", margin=0.2)  # 0.3 - 0.5 + 0.2 is -2.8e-17
    assert (at.verdict, at.reason) == (OPEN, "both sides are equal at every seed but for the margin")
    assert verdict(same, dict.fromkeys(range(5), 0.1), "=", margin=0.1).verdict == FAILS
    few = verdict({0: 1.0, 1: 1.0}, 1.0, "=", margin=0.1)
    assert few.verdict == OPEN and few.reason == "2 seeds; a claim needs at least 5"


def test_sign_test_against_a_margin():
    six = dict(enumerate([-0.5, 1, 2, 3, 4, 5]))
    plain = verdict(six, 0.0, ">", "sign")
    assert plain.verdict == OPEN and plain.p == pytest.approx(14 / 64)
    near = verdict(six, 0.0, ">=", "sign", margin=1)
    assert near.verdict == HOLDS and near.p == pytest.approx(2 / 64)
    assert near.reason == "sign test against −1 p = 0.0312" and near.effect == plain.effect == 2.5
    assert verdict(six, 0.0, "=", "sign", margin=6).verdict == HOLDS
    assert verdict(six, 0.0, "=", "sign", margin=5).verdict == OPEN  # 5 - 5 is a tie: five signs are too few
    assert verdict({s: v + 9 for s, v in six.items()}, 0.0, "=", "sign", margin=6).verdict == FAILS


def test_reasons_say_the_margin():
    say = lambda op, centre: verdict(around(centre), 0.0, op, margin=2).reason
    assert [say("=", c) for c in (0, 1, 9)] == [
        f"the 95 % interval {x} ±2" for x in ("lies within", "reaches over an end of", "lies outside")
    ]
    assert (say(">=", 0), say("<=", 1)) == ("the 95 % interval excludes −2", "the 95 % interval contains 2")


def test_decisions_by_place():
    assert [decide("=", list(places)) for places in ((1, -1), (1, 0), (0, 0), (0, -1), (-1, -1), (1, 1))] == [
        HOLDS,
        OPEN,
        OPEN,
        OPEN,
        FAILS,
        FAILS,
    ]
    assert [decide(op, [1]) for op in (">", ">=", "<", "<=")] == [HOLDS, HOLDS, FAILS, FAILS]
    assert (borders("=", 2), borders(">=", 2), borders("<=", 2), borders("<", None)) == ([-2, 2], [-2], [2], [0.0])
    assert t_test([1, 2, 3, 4, 5])[1] == pytest.approx([3 - HALF, 3 + HALF], abs=1e-6)


def test_claims_with_a_margin_are_shown():
    claim = {"left": {"label": "a.x"}, "right": {"label": "b.x"}, "margin": 0.02}
    assert [stated(claim | {"op": op}) for op in ("=", ">=", "<=")] == [
        "a.x = b.x ± 0.02",
        "a.x >= b.x − 0.02",
        "a.x <= b.x + 0.02",
    ]
    assert stated(claim | {"op": ">", "margin": None}) == "a.x > b.x"
    shaded = lambda op: forest(0.0, [-1, 1], op, 1.0).split('class="claimed" x="')[1].split('"')
    reach = (WIDTH / 2 - 6) / 1.15
    ends = [round(WIDTH / 2 - reach), round(2 * reach)]
    assert [int(shaded("=")[0]), int(shaded("=")[4])] == ends
    assert int(shaded(">=")[0]) + int(shaded(">=")[4]) == WIDTH and int(shaded("<=")[0]) == 0
