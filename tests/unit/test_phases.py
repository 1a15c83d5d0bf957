"""Where a training's time went: beside the result, never in it."""

from __future__ import annotations

import json
import re

import pytest
import torch

from opd_steps.loop import phases
from opd_steps.process import flops, kv
from tests.unit.opd_toys import NODE, run


def test_times_stand_in_timing_json_alone(tmp_path, capsys):
    made = run(tmp_path, steps=3, keep={"early": 2})
    told = json.loads((tmp_path / f"{NODE}.timing.json").read_text())
    assert told["phases_s"].keys() == {"batch", "update", "hooks", "checkpoint"}
    assert all(seconds > 0 for seconds in told["phases_s"].values())
    assert sum(told["phases_s"].values()) < told["wall_s"]
    tokens = sum(json.loads(line)["train/tokens"] for line in made.metrics.splitlines())
    assert told["steps"] == 3 and abs(told["tokens_per_s"] * sum(told["phases_s"].values()) - tokens) < 1e-6 * tokens
    assert told["tflops_per_s"] > 0 and not {"mfu", "kv_cache_peak", "gpu_peak_mib"} & told.keys()
    assert b"phases" not in made.metrics and "phases" not in json.dumps(made.manifest) and b"flops" not in made.metrics
    (last,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("step 3/3"))
    assert " s a step (" in last and "update " in last and re.search(r" tokens/s  \S+ TFLOP/s$", last)


@pytest.fixture
def clock(monkeypatch):
    """clock[0]: the time."""
    now = [0.0]
    monkeypatch.setattr(phases.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(flops, "done", flops.Counter())
    monkeypatch.setattr(kv, "sampling", kv.Cache())
    return now


def on(monkeypatch, card: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: card)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)


def of_two_steps(clock, unknown: bool = False) -> phases.Phases:
    """Each 3 s of rollouts and 2 s of updates; 10^15 and 3 * 10^13 FLOPs are of these, others of whoever judges."""
    found = phases.Phases()
    for _ in range(2):
        with found.of("batch"):
            flops.done["float32"] += 7e15
            clock[0] += 3
        with found.of("update"):
            flops.done["bfloat16"] += 1e15
            flops.done["float32"] += 3e13
            flops.done[flops.UNKNOWN] += unknown
            clock[0] += 2
        found.steps, found.tokens = found.steps + 1, found.tokens + 50
    return found


def test_mfu_by_hand(clock, monkeypatch):
    """4 s of updates: 2 * 10^15 of 989 * 10^12 a second, and 6 * 10^13 of 67 * 10^12."""
    on(monkeypatch, "NVIDIA H100 80GB HBM3")
    found = of_two_steps(clock)
    assert found.told()["tflops_per_s"] == pytest.approx(515)
    assert found.told()["mfu"] == pytest.approx((2000 / 989 + 60 / 67) / 4)
    assert str(found) == "5 s a step (batch 60%, update 40%)  10 tokens/s  515 TFLOP/s (MFU 72.9%)  3 MiB"


def test_a_card_without_a_peak_has_no_mfu(clock, monkeypatch):
    on(monkeypatch, "NVIDIA Quadro")
    found = of_two_steps(clock)
    assert found.told()["tflops_per_s"] == pytest.approx(515) and "mfu" not in found.told()
    assert str(found).endswith("  515 TFLOP/s  3 MiB")


def test_what_is_known_of_some_models_alone_is_not_told(clock, monkeypatch):
    on(monkeypatch, "NVIDIA H100 80GB HBM3")
    found = of_two_steps(clock, unknown=True)
    assert not {"tflops_per_s", "mfu"} & found.told().keys() and str(found).endswith(" 10 tokens/s  3 MiB")


def test_the_most_that_was_in_a_cache_is_told(clock):
    kv.sampling.see(0.25, 1)
    kv.sampling.see(0.125, 2)
    found = of_two_steps(clock)
    assert found.told()["kv_cache_peak"] == 0.25 and found.told()["preempted"] == 3
    assert str(found).endswith("TFLOP/s  KV cache 25%, 3 preempted")
