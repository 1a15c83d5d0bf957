"""Gradients that are far larger than those before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from opd_steps.errors import UserError
from opd_steps.loop import learner
from opd_steps.loop.spikes import Spikes
from tests.unit.opd_toys import NODE, Killed, run, work

FOUND = {"factor": 10.0, "window": 8}


@contextmanager
def norms(*values: float) -> Iterator[None]:
    """The gradient norms of the updates that are made, those of a resumed run among them."""
    left, real = list(values), learner.clip_gradient
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "clip_gradient", lambda *how: (real(*how), left.pop(0))[1])
        yield


def rows(metrics: bytes) -> list[dict]:
    return [json.loads(line) for line in metrics.splitlines()]


def test_a_spike_is_left_out_and_seen(tmp_path, capsys):
    with norms(1, 2, 1, 2, 500, 2, 1, 2):
        found = rows(run(tmp_path, spikes=FOUND).metrics)
    assert [row["train/spikes"] for row in found] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert [row.get("train/spike_norm") for row in found] == [None] * 4 + [500.0] + [None] * 3
    assert ["train/loss" in row for row in found] == [True] * 4 + [False] + [True] * 3
    assert "step 5: the gradient norm 500 is more than 10 times the median of the last updates, 1.5" in capsys.readouterr().out


def test_it_moves_neither_weights_nor_moments(tmp_path):
    often = {"checkpoint_every": 1, "spikes": FOUND}
    for folder, kill_at in (("before", 5), ("after", 6)):
        with norms(1, 1, 1, 1, 500, 1), pytest.raises(Killed):
            run(tmp_path / folder, kill_at, **often)
    kept = [work(tmp_path / f) / f"checkpoint-0000000{step}" for f, step in (("before", 4), ("after", 5))]
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (kept[0] / name).read_bytes() == (kept[1] / name).read_bytes()


def test_without_spikes_the_guard_changes_nothing(tmp_path):
    plain, guarded = run(tmp_path / "plain"), run(tmp_path / "guarded", spikes={"factor": 1e6})
    strip = lambda metrics: [{k: v for k, v in row.items() if k != "train/spikes"} for row in rows(metrics)]
    assert strip(guarded.metrics) == rows(plain.metrics) and not any("train/spikes" in row for row in rows(plain.metrics))
    assert guarded.manifest["files"]["model/model.safetensors"] == plain.manifest["files"]["model/model.safetensors"]


def test_a_resumed_run_knows_what_was_usual(tmp_path):
    with norms(1, 1, 1, 1, 1, 500, 1, 1):
        whole = run(tmp_path / "whole", spikes=FOUND)
    with norms(1, 1, 1, 1), pytest.raises(Killed):
        run(tmp_path / "broken", 5, spikes=FOUND)
    with norms(1, 500, 1, 1):
        resumed = run(tmp_path / "broken", spikes=FOUND)
    assert resumed.metrics == whole.metrics and resumed.manifest["files"] == whole.manifest["files"]


def test_it_may_end_the_training(tmp_path):
    with norms(1, 1, 1, 1, 500), pytest.raises(UserError) as caught:
        run(tmp_path, spikes=FOUND | {"then": "stop"})
    assert str(caught.value) == (
        f"{NODE}: step 5: the gradient norm 500 is more than 10 times the median of the last updates, 1; "
        "nothing is published, the checkpoint after step 4 stays"
    )


def made(allowed: list[float], window: int = 8) -> list[float]:
    """Of these norms those whose updates are made."""
    spikes = Spikes({"factor": 10.0, "window": window, "then": "skip"}, UserError)
    return [norm for norm in allowed if spikes.allows("", {"train/grad_norm": norm})]


def test_the_first_updates_are_made_and_a_lasting_rise_is_followed():
    assert made([100, 1, 100]) == [100, 1, 100]
    assert made([1.0] * 8 + [50.0] * 8) == [1.0] * 8 + [50.0] * 4  # four of eight in the window lift the median
    assert made([1, 1, 9.9, 10.1, 1]) == [1, 1, 9.9, 1]


def test_learners_have_their_own_scale():
    spikes = Spikes(FOUND | {"then": "skip"}, UserError)
    both = lambda a, b: (spikes.allows("", {"train/grad_norm": a}), spikes.allows("b", {"train/b/grad_norm": b}))
    assert [both(1, 1000) for _ in range(3)] == [(True, True)] * 3 and both(1000, 1000) == (False, True)
