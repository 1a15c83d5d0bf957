"""Whatever moves while an opd node trains, a killed and resumed run ends with the bytes of an unbroken one."""

from __future__ import annotations

import json

import pytest
import torch

from tests.unit.opd_toys import Killed, curve, run, work

PRUNE = {"weight": [{"name": "overlap_decay", "k": 4, "margin": 2}]}
FULL_FKL = {"signal": "fkl", "support": "full", "estimator": "exact"}
CASES = {
    "ema teacher": {"teacher_source": {"name": "ema", "rate": 0.3}},
    "extrapolate": {"hooks": [{"name": "effopd", "prompts": 5, "candidates": 2, "factor": 0.5}]},
    "sparse": {"hooks": [{"name": "sparse", "share": 0.3}], "parents": {"update_of": "model/end/seed5"}},
    "stale buffer": {"buffer": {"batches": 3}},
    "replay buffer": {"buffer": {"batches": 2, "passes": 2}, "method": {"add": [{"rows": "teacher"}, {"rows": "dataset"}]}},
    "one step off": {"buffer": {"ahead": True}},
    "mixed ages": {"buffer": {"batches": 3, "mixed": True}},
    "early refresh": {
        "buffer": {"batches": 2, "passes": 3, "metric": "freshness", "below": 0.6},
        "method": {"weight": ["freshness"]},
    },
    "linear": {"controllers": [{"name": "linear", "sets": "sampling.max_new_tokens", "first": 2, "last": 6}]},
    "entropy gate": {
        "controllers": [{"name": "entropy_gate", "sets": "sampling.max_new_tokens", "stages": [2, 4, 6], "every": 2}]
    },
    "hit rate": {
        "method": PRUNE,
        "controllers": [{"name": "hit_rate", "sets": "sampling.max_new_tokens", "low": 2, "high": 7, "step": 1, "patience": 2}],
    },
    "switch": {"controllers": [{"name": "switch", "sets": "method.transform", "to": [{"name": "floor", "lam": 0.3}]}]},
    "taid": {
        "method": {"target": "taid", **FULL_FKL},
        "controllers": [{"name": "taid_momentum", "rate": 0.2, "momentum": 0.5}],
    },
    "all at once": {
        "method": {"signal": "outcome", "add": [{"coef": 1.0}, {"rows": "teacher", "estimator": "mle", "coef": 0.1}]},
        "teacher_source": "ema",
        "hooks": [{"name": "effopd", "prompts": 3, "candidates": 1}],
        "buffer": {"batches": 2},
        "controllers": [
            {"name": "linear", "sets": "method.add[0].coef", "first": 1, "last": 0.2},
            {"name": "linear", "sets": "sampling.max_new_tokens", "first": 3, "last": 5},
        ],
    },
}


UNMOVED: dict[str, dict] = {}


def unmoved(folder, method: dict) -> dict[str, torch.Tensor]:
    """Weights after the method alone, once for all cases that share it."""
    key = json.dumps(method)
    if key not in UNMOVED:
        UNMOVED[key] = run(folder, method=method).weights
    return UNMOVED[key]


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path, case):
    options = CASES[case]
    whole = run(tmp_path / "whole", **options)
    for kill_at in (4, 7):  # in the middle of a buffer, between checkpoints and behind one
        with pytest.raises(Killed):
            run(tmp_path / "broken", kill_at, **options)
    resumed = run(tmp_path / "broken", **options)
    for name, value in whole.weights.items():
        assert torch.equal(resumed.weights[name], value), name
    assert (resumed.metrics, resumed.tokens) == (whole.metrics, whole.tokens)
    plain = unmoved(tmp_path / "plain", options.get("method", {}))
    assert any(
        not torch.equal(plain[name], value) for name, value in whole.weights.items()
    )  # what is tested did move something


@pytest.mark.parametrize(
    "case", ["ema teacher", "stale buffer", "one step off", "replay buffer", "mixed ages", "early refresh", "linear"]
)
def test_one_that_was_told_to_stop_while_it_waited(tmp_path, capsys, case):
    """Its step is given up, the ones before it are saved, and nothing of it shows afterwards: in the first step, in a filled buffer's
    first, in its second, and again before any other step was done."""
    whole = run(tmp_path / "whole", **CASES[case])
    for stop_at in (1, 4, 6, 6):
        with pytest.raises(SystemExit):
            run(tmp_path / "broken", stop_at=stop_at, **CASES[case])
        saved = sorted(p.name for p in work(tmp_path / "broken").glob("checkpoint-*"))
        assert saved == ([f"checkpoint-{stop_at - 1:08d}"] if stop_at > 1 else [])
    resumed = run(tmp_path / "broken", **CASES[case])
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())
    assert resumed.metrics == whole.metrics
    said = capsys.readouterr().out
    assert "stopped by signal 15 before its first step; run again to begin" in said
    assert "stopped by signal 15 after step 5; its checkpoint is saved, in " in said


def test_the_buffer_ages_and_refills_as_it_says(tmp_path):
    stale = run(tmp_path / "a", buffer={"batches": 3}).metrics
    assert curve(stale, "age") == [0, 1, 2, 0, 1, 2, 0, 1] and curve(stale, "refilled") == [1, 0, 0, 1, 0, 0, 1, 0]
    replay = run(tmp_path / "b", buffer={"batches": 2, "passes": 2}).metrics
    assert curve(replay, "age") == [0, 1, 2, 3] * 2
    assert curve(replay, "reward")[:2] == curve(replay, "reward")[2:4]  # the same rollouts again
    options = {"buffer": {"batches": 4, "metric": "freshness", "below": 0.6}, "method": {"weight": ["freshness"]}}
    early = run(tmp_path / "c", **options).metrics
    assert curve(early, "refilled") == [1, 0, 1, 0, 1, 0, 1, 0]  # at age 1, 1 / 2 exp(-drift) < .6
    assert all(f <= 1 / (1 + age) for f, age in zip(curve(early, "freshness"), curve(early, "age"), strict=True))


def test_controlled_options_are_drawn_beside_the_loops_own_curves(tmp_path):
    options = {
        "method": {"weight": [{"name": "first_tokens", "length": 1}]},
        "controllers": [{"name": "linear", "sets": "method.weight[0].length", "first": 1, "last": 4}],
    }
    metrics = run(tmp_path / "a", **options).metrics
    assert curve(metrics, "set_length") == [1, 1, 1, 2, 2, 2, 3, 3]  # floor(1 + 3 t / 8), t steps done
    assert all(1 <= value <= 4 for value in curve(metrics, "length")) and len(set(curve(metrics, "length"))) > 3
    lengths = run(tmp_path / "b", **CASES["linear"]).metrics
    assert curve(lengths, "max_new_tokens") == [2, 2, 3, 3, 4, 4, 5, 5]
    assert all(a <= b for a, b in zip(curve(lengths, "length"), curve(lengths, "max_new_tokens"), strict=True))
