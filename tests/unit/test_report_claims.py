"""Verdicts on numbers worked out by hand."""

from __future__ import annotations

import json
import math

import pytest

from opd_steps.findings.claims import FAILS, HOLDS, OPEN, UNMEASURED, UNTESTABLE, verdict
from opd_steps.findings.judge import judge
from opd_steps.findings.results import Plan
from opd_steps.findings.stats import half_width, sign_test, t_test
from tests.unit.fake_results import FakeResults, with_figure


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_t_interval_of_1_to_5():
    mean, interval, p = t_test([1, 2, 3, 4, 5])
    # s = sqrt(2.5), t(4, .975) = 2.776445, half = 2.776445 * sqrt(2.5 / 5) = 1.963243; t = 3 / .7071 = 4.242641
    assert (mean, interval) == (3, pytest.approx([3 - 1.963243, 3 + 1.963243], abs=1e-6))
    assert p == pytest.approx(0.0132357, abs=1e-6)
    assert half_width([0.7]) is None


@pytest.mark.parametrize(
    ("op", "shift", "found"),
    [(">", 3, HOLDS), ("<", -3, HOLDS), (">", -3, FAILS), ("<", 3, FAILS), (">", 0, OPEN), ("<", 0, OPEN)],
)
def test_t_verdict_needs_the_whole_interval_on_one_side(op, shift, found):
    left = seeds(*(10 + shift + d for d in (-2, -1, 0, 1, 2)))
    assert verdict(left, 10.0, op).verdict == found
    assert verdict(left, dict.fromkeys(left, 10.0), op).verdict == found


def test_pairing_by_seed_removes_what_seeds_share():
    right = seeds(0.1, 0.5, 0.9, 0.3, 0.7)
    left = {seed: value + 0.01 + 0.001 * seed for seed, value in right.items()}
    judged = verdict(left, right, ">")
    assert judged.verdict == HOLDS and judged.effect == pytest.approx(0.012)


def test_fewer_than_five_seeds_judge_nothing():
    four = verdict(seeds(1, 2, 3, 4), 0.0, ">")
    assert (four.verdict, four.n, four.reason) == (OPEN, 4, "4 seeds; a claim needs at least 5")
    assert four.interval is not None
    one = verdict(seeds(1), 0.0, ">")
    assert (one.verdict, one.interval, one.p, one.effect) == (OPEN, None, None, 1)


def test_no_spread():
    same = verdict(dict.fromkeys(range(5), 0.3), dict.fromkeys(range(5), 0.1), ">")
    assert same.verdict == HOLDS and same.interval == pytest.approx([0.2, 0.2]) and same.p < 1e-6
    equal = verdict(dict.fromkeys(range(5), 0.1 + 0.2), 0.3, ">")  # differs by rounding alone
    assert (equal.verdict, equal.effect, equal.interval) == (OPEN, 0.0, [0.0, 0.0])
    assert equal.reason == "both sides are equal at every seed"


def test_sign_test_by_hand():
    assert sign_test([1, 2, 3, 4, 5, -6])[2] == pytest.approx(2 * 7 / 64)
    assert sign_test([1, 2, 3, 4, 5])[1] is None  # the range of five covers 93.75 %
    median, interval, p = sign_test([1, 2, 3, 4, 5, 6])
    assert (median, interval, p) == (3.5, [1, 6], pytest.approx(2 / 64))
    assert sign_test(list(range(1, 10)))[1] == [2, 8]  # n = 9: 2nd and 8th, 96.1 %
    assert sign_test([0, 0, 1, 1, 1, 1, 1, 1])[2] == pytest.approx(2 / 64)  # ties are left out


def test_sign_verdict():
    six = seeds(1, 2, 3, 4, 5, 6)
    assert verdict(six, 0.0, ">", "sign").verdict == HOLDS
    assert verdict(six, 0.0, "<", "sign").verdict == FAILS
    five = verdict(seeds(1, 2, 3, 4, 5), 0.0, ">", "sign")
    assert five.verdict == OPEN and "at least 6 seeds" in five.reason


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_missing_value_is_not_averaged_away(bad):
    judged = verdict(seeds(1, 2, bad, 4, 5, 6), 0.0, ">")
    assert (judged.verdict, judged.reason) == (UNMEASURED, "no finite value at seed 2")
    assert verdict(seeds(1, 2), seeds(1), ">").verdict == UNMEASURED
    assert verdict({}, 0.0, ">").verdict == UNMEASURED


def test_two_pinned_nodes_are_one_pair(tmp_path):
    fake = FakeResults(tmp_path)
    claim = fake.plan["papers"]["quickstart"]["claims"][1]
    term = claim["left"]["terms"][0]
    term["paths"] = dict.fromkeys(term["paths"], "quickstart/opd/opd/seed0")
    found = judge(Plan.read(_rewrite(fake), fake.root))["quickstart"][1]
    assert (found["direction"]["n"], found["direction"]["verdict"]) == (1, OPEN)


def test_claims_keep_contract_and_direction_apart(tmp_path):
    fake = FakeResults(tmp_path)
    found = {c["id"]: c for c in judge(Plan.read(fake.plan_file, fake.root))["vopd"]}
    assert {name: c["direction"]["verdict"] for name, c in found.items()} == {
        "baseline": HOLDS,
        "worse": FAILS,
        "sign": OPEN,
        "missing": UNMEASURED,
        "gain": HOLDS,
        "here": UNTESTABLE,
    }
    assert found["baseline"]["same_contract"] is False and found["baseline"]["differs"]
    assert not found["baseline"]["unequal"] and found["worse"]["unequal"][0]["what"] == "steps"
    (left,) = found["baseline"]["seeds"][3]["left"]["figures"]
    assert left["path"] == "vopd/evaluate/vopd/seed3" and left["fingerprint"] == fake.fingerprints[left["path"]]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "vopd/evaluate/vopd/seed3: test/avg_at_k is nan"),
        (-math.inf, "vopd/evaluate/vopd/seed3: test/avg_at_k is -inf"),
        (None, "vopd/evaluate/vopd/seed3 has no test/avg_at_k"),
    ],
)
def test_a_claim_with_one_figure_that_is_none_says_whose_it_is(tmp_path, value, says):
    fake = FakeResults(tmp_path)
    plan = Plan.read(fake.plan_file, fake.root)
    claim = judge(with_figure(plan, "vopd/evaluate/vopd/seed3", "test/avg_at_k", value))["vopd"][0]
    found = claim["direction"]
    assert (found["verdict"], found["reason"], found["effect"], found["interval"]) == (UNMEASURED, says, None, None)
    assert claim["seeds"][3]["left"]["value"] is None and claim["seeds"][3]["right"]["figures"][0]["found"] == "finite"
    json.dumps(claim, allow_nan=False)


def test_figures_too_large_for_a_mean_are_no_evidence():
    large = verdict(seeds(1e300, 1.7e308, 1e300, 2.0, 3.0), -1.7e308, ">")
    assert (large.verdict, large.effect, large.reason) == (UNMEASURED, None, "the figures are too large to be compared")
    assert verdict(seeds(1e60, 2e60, 3e60, 4e60, 5e60), 0.0, ">").verdict == HOLDS


def _rewrite(fake: FakeResults):
    fake.write_plan()
    assert json.loads(fake.plan_file.read_text()) == json.loads(json.dumps(fake.plan))
    return fake.plan_file
