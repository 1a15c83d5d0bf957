"""Controllers on scripted series: their traces, written out; every state survives JSON at every step."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from opd_steps.config import plugs

STEPS = 10


def trace(options: dict, now, series: list[dict], steps: int = STEPS) -> list:
    """Values used at steps 1, 2, ...; state and value go through JSON and a controller of its own between all steps."""
    make = lambda: plugs.load("schedules", options)
    value, state = make().start(now)
    values = [value]
    for step, metrics in enumerate(series, 1):
        value, state = json.loads(json.dumps([value, state]))
        value, state = make().after(step, steps, metrics, value, state)
        values.append(value)
    return values


def metric(name: str, values: list[float]) -> list[dict]:
    return [{f"train/{name}": v} for v in values]


def test_linear():
    line = {"name": "linear", "sets": "x", "first": 1.0, "last": 0.0}
    assert trace(line, 1.0, [{}] * 10) == pytest.approx([1 - t / 10 for t in range(11)])
    assert trace(line | {"over": 0.5}, 1.0, [{}] * 10) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0, 0, 0])
    grows = trace({"name": "linear", "sets": "x", "first": 2, "last": 6}, 32, [{}] * 10)
    assert grows == [2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6] and all(isinstance(v, int) for v in grows)
    with pytest.raises(ValueError, match="over is a share"):
        plugs.load("schedules", line | {"over": 0.0})


def test_switch():
    to = {"name": "rkl"}
    assert trace({"name": "switch", "sets": "x", "to": to, "at": 0.3}, "old", [{}] * 6) == ["old"] * 3 + [to] * 4
    with pytest.raises(ValueError, match="at is a share"):
        plugs.load("schedules", {"name": "switch", "sets": "x", "to": 1, "at": 1.0})


def test_entropy_gate_goes_on_while_entropy_holds_and_stays_for_good_once_it_does_not():
    gate = {"name": "entropy_gate", "sets": "x", "stages": [4, 8, 16, 32], "every": 2, "h_min": 0.5}
    series = metric("entropy", [0.1, 0.9, 0.1, 0.5, 0.9, 0.4, 0.9, 0.9, 0.9, 0.9])
    #                                 ^ up      ^ up (at least)  ^ too low: for good
    assert trace(gate, 99, series) == [4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 16]
    high = metric("entropy", [1.0] * 10)
    assert trace(gate, 99, high) == [4, 4, 8, 8, 16, 16, 32, 32, 32, 32, 32]
    with pytest.raises(ValueError, match="growing list"):
        plugs.load("schedules", gate | {"stages": [8, 4]})


def test_hit_rate_trace():
    """Up by `step` on a hit, down after `patience` misses in a row, within low .. high."""
    rate = {"name": "hit_rate", "sets": "x", "low": 4, "high": 10, "step": 2, "share": 0.1, "patience": 3}
    hits = [
        0.1,
        0.0,
        0.09,
        0.5,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        1.0,
        1.0,
        1.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
    ]
    trail = [6, 8, 8, 8, 10, 10, 10, 8, 8, 8, 6, 8, 10, 10, 10, 10, 8, 8, 8, 6, 6, 6, 4, 4, 4]
    assert trace(rate, 6, metric("prune_hits", hits)) == trail
    assert trace(rate, 99, []) == [10] and trace(rate, 1, []) == [4]  # it starts within its bounds
    assert trace(rate, 4, metric("prune_hits", [0.0] * 7))[-1] == 4
    with pytest.raises(ValueError, match="0 < low <= high"):
        plugs.load("schedules", rate | {"low": 11})


@pytest.mark.parametrize("losses", [[1.0 - 0.09 * i for i in range(10)], [1.0, 2.0] * 5, [0.0] * 10, [1e-9] * 10])
def test_taid_never_falls_and_never_lies_below_the_line(losses):
    options = {"name": "taid", "sets": "x", "first": 0.4, "last": 1.0, "rate": 0.2, "momentum": 0.5}
    values = trace(options, 0.0, metric("loss", losses))
    line = [0.4 + 0.6 * t / STEPS for t in range(STEPS + 1)]
    assert values[0] == 0.4 and values[-1] == 1.0 and max(values) <= 1.0
    assert all(b >= a for a, b in itertools.pairwise(values))
    assert all(v >= x - 1e-12 for v, x in zip(values, line, strict=True))


def test_taid_by_its_formula():
    """By hand from the paper: momentum of the relative drop, then t + rate * sigmoid(m) * (1 - t) against the line."""
    losses, t, m, old = [4.0, 2.0, 2.0, 3.0], 0.4, 0.0, None
    expected = [t]
    for step, loss in enumerate(losses, 1):
        if old is not None:
            m = 0.5 * m + 0.5 * (old - loss) / old
        old = loss
        t = min(1.0, max(0.4 + 0.6 * step / 1000, t + 0.3 / (1 + math.exp(-m)) * (1 - t)))
        expected.append(t)
    options = {"name": "taid", "sets": "x", "rate": 0.3, "momentum": 0.5}
    assert trace(options, 0.0, metric("loss", losses), steps=1000) == pytest.approx(expected, abs=1e-12)
    assert expected[-1] > 0.6  # well above the line
