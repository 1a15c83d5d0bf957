"""Controllers are pure: what they say depends on plain values that JSON carries, and on nothing that an object remembers."""

from __future__ import annotations

import json

import pytest

from opd_steps.config import plug_schema, plugs

STEPS = 24
CASES = [
    ({"name": "linear", "sets": "x", "first": 2, "last": 9}, 5),
    ({"name": "linear", "sets": "x", "first": 1.0, "last": 0.0, "over": 0.5}, 0.3),
    ({"name": "switch", "sets": "x", "to": {"name": "floor", "lam": 0.3}, "at": 0.3}, {"name": "clip"}),
    ({"name": "entropy_gate", "sets": "x", "stages": [4, 8, 16, 32], "every": 2, "h_min": 0.3}, 4),
    ({"name": "hit_rate", "sets": "x", "low": 4, "high": 10, "step": 1, "share": 0.6, "patience": 2}, 6),
    ({"name": "taid_momentum", "rate": 0.1, "momentum": 0.5}, 0.0),
    ({"name": "raise_on_loss", "sets": "x", "every": 3, "eps": 0.0, "since": "previous"}, 0.0),
]


def series() -> list[dict]:
    """Metrics that rise, fall and jump; the entropy ends low."""
    wave = lambda t, k: (7 * t * k % 11) / 10
    return [
        {"train/loss": 1 + wave(t, 3), "train/entropy": 0.9 - t / 30, "train/prune_hits": wave(t, 5)}
        for t in range(1, STEPS + 1)
    ]


def trace(options: dict, now, through) -> list:
    """Values at steps 1, 2, ...; `through` is done to controller options, value and state between all steps."""
    value, state = plugs.load("schedules", options).start(now)
    values, controller = [value], plugs.load("schedules", options)
    for step, metrics in enumerate(series(), 1):
        controller, value, state = through(controller, value, state)
        value, state = controller.after(step, STEPS, metrics, value, state)
        values.append(value)
    return values


@pytest.mark.parametrize(("options", "now"), CASES, ids=[f"{o['name']}{i}" for i, (o, _) in enumerate(CASES)])
def test_a_controller_goes_on_from_json_at_every_step(options, now):
    plain = trace(options, now, lambda *parts: parts)
    fresh = lambda _, value, state: (plugs.load("schedules", options), *json.loads(json.dumps([value, state])))
    assert trace(options, now, fresh) == plain
    assert any(value != plain[0] for value in plain)
    assert {o["name"] for o, _ in CASES} == set(plug_schema.names("schedules"))  # a new controller belongs in the list
