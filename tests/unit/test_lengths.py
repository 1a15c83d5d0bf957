"""Controllers of the rollout length, on scripted metrics."""

from __future__ import annotations

from opd_steps.schedules.entropy_gate import EntropyGate
from opd_steps.schedules.hit_rate import HitRate
from opd_steps.schedules.linear import Linear

SETS = "sampling.max_new_tokens"


def trace(controller, now, readings: list[dict], steps: int | None = None) -> list:
    value, state = controller.start(now)
    values = [value]
    for step, reading in enumerate(readings, 1):
        value, state = controller.after(step, steps or len(readings), reading, value, state)
        values.append(value)
    return values


def test_hit_rate_goes_up_at_once_and_down_after_misses_in_a_row():
    hits = [0.1, 0.5, 0.0, 0.09, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    found = trace(HitRate(SETS, low=8, high=20, step=4), 12, [{"train/prune_hits": h} for h in hits])
    assert found == [12, 16, 20, 20, 20, 20, 20, 20, 16, 16, 16, 12, 12]


def test_hit_rate_stays_in_its_bounds():
    found = lambda hit, now: trace(HitRate(SETS, low=8, high=20, step=7, patience=1), now, [{"train/prune_hits": hit}] * 3)
    assert found(1.0, 4) == [8, 15, 20, 20] and found(0.0, 40) == [20, 13, 8, 8]


def test_entropy_gate_goes_back_to_the_last_stable_length_for_good():
    gate = EntropyGate(SETS, stages=[4, 8, 16, 32], every=2, h_min=0.5)
    entropies = [0.1, 0.5, 0.9, 0.6, 0.9, 0.4, 0.9, 0.9]  # read at steps 2, 4, 6, 8
    found = trace(gate, 99, [{"train/entropy": h} for h in entropies])
    assert found == [4, 4, 8, 8, 16, 16, 8, 8, 8]
    assert trace(gate, 99, [{"train/entropy": 0.4}] * 5) == [4] * 6
    assert trace(gate, 99, [{"train/entropy": 0.5}] * 9)[-1] == 32  # and stays at the last stage


def test_linear_length_grows_by_whole_tokens_and_ends_on_its_last():
    found = trace(Linear(SETS, first=4, last=10), 99, [{}] * 8)
    assert found == [4, 4, 5, 6, 7, 7, 8, 9, 10]
    assert trace(Linear(SETS, first=4, last=10, over=0.5), 99, [{}] * 4) == [4, 7, 10, 10, 10]
