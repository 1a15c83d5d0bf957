"""Several learners in one node: each trained as alone, kept, resumed and published by its name."""

from __future__ import annotations

import json

import pytest
import torch

from opd_steps.graph.train_metrics import opd_curves
from tests.unit.opd_toys import NODE, Killed, curve, node, nodes, read_weights, run, work

OTHER, UNTIED = "model/end/seed5", "model/untied/seed0"
FULL = {"signal": "rkl", "support": "full", "estimator": "exact"}


def both(folder, peer=OTHER, of_peer=None, kill_at: int = 0, optim=None, **changes):
    """The student, and a peer that has the same teacher."""
    learner = {"method": FULL | (of_peer or {}), "optim": {"lr": 0.01} | (optim or {})}
    return run(folder, kill_at, parents={"learners.peer.model": peer}, learners={"peer": learner}, method=FULL, **changes)


def peer_weights(folder) -> dict[str, torch.Tensor]:
    return read_weights(folder / NODE / "parts/peer")


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


def test_each_is_trained_as_it_would_be_alone(tmp_path):
    found = both(tmp_path / "both")
    alone = run(tmp_path / "student", method=FULL)
    its = run(tmp_path / "peer", parents={"student": OTHER}, method=FULL)
    assert equal(found.weights, alone.weights) and equal(peer_weights(tmp_path / "both"), its.weights)
    for name in ("loss", "divergence", "reward", "grad_norm", "tokens"):
        assert curve(found.metrics, name) == curve(alone.metrics, name)
        assert curve(found.metrics, f"peer/{name}") == curve(its.metrics, name)


@pytest.mark.parametrize("prefix", ["student", "dataset"])
def test_the_curves_are_those_that_the_options_promise(tmp_path, prefix):
    method, peer = {"estimator": "mle", "prefix": prefix}, {**FULL, "prefix": "shared"}
    learner = {"method": peer, "gradient": "per_record"}
    found = run(tmp_path, parents={"learners.peer.model": OTHER}, learners={"peer": learner}, method=method, steps=1)
    promised = opd_curves(node(learners={"peer": learner | {"model": "other"}}, method=method))
    assert set(json.loads(found.metrics)) == {"step", *(f"train/{name}" for name in promised)}
    assert ("peer/reward" in promised) == (prefix == "student") and "peer/record_norm" in promised


def test_each_has_its_own_optimizer(tmp_path):
    still = both(tmp_path, optim={"lr": 0.0})
    assert equal(peer_weights(tmp_path), read_weights(nodes() / "p" / OTHER))
    assert not equal(still.weights, read_weights(nodes() / "p/model/student/seed0"))


TEACH_EACH_OTHER = {
    "teachers": {"one": {"model": "self", "weights": "current"}, "two": {"model": "self:peer", "weights": "current"}},
    "method": {**FULL, "against": "two"},
}


def mutual(folder, kill_at: int = 0, peer: str = UNTIED, **changes):
    parents = {"teacher": None, "reference": None, "learners.peer.model": peer}
    parents |= {"teachers.one.model": "model/student/seed0", "teachers.two.model": peer}
    learner = {"method": {**FULL, "against": "one"}, "optim": {"lr": 0.01}, "gradient": {"name": "per_record", "noise": 0.1}}
    return run(folder, kill_at, parents=parents, learners={"peer": learner}, **TEACH_EACH_OTHER, **changes)


@pytest.mark.parametrize("options", [{}, {"minibatches": 2}], ids=str)
def test_resumed_at_any_moment_they_end_with_the_same_bytes(tmp_path, options):
    whole = mutual(tmp_path / "whole", **options)
    for kill_at in (4, 7):
        with pytest.raises(Killed):
            mutual(tmp_path / "broken", kill_at, **options)
        (kept,) = work(tmp_path / "broken").glob("checkpoint-*")
        expected = {"state.json", "state.safetensors"}
        expected |= {f"{part}{learner}.safetensors" for part in ("model", "optimizer") for learner in ("", ".peer")}
        assert {p.name for p in kept.iterdir()} == expected
    resumed = mutual(tmp_path / "broken", **options)
    assert resumed.metrics == whole.metrics
    assert {n: f["sha256"] for n, f in resumed.manifest["files"].items()} == {
        n: f["sha256"] for n, f in whole.manifest["files"].items()
    }
    assert any(name.startswith("parts/peer/model/") for name in whole.manifest["files"])


def test_both_move_towards_each_other(tmp_path):
    found = mutual(tmp_path, steps=12)
    for name in ("divergence", "peer/divergence"):
        values = curve(found.metrics, name)
        assert values[-1] < values[0]


def test_what_is_published_names_its_parts(tmp_path):
    found = mutual(tmp_path, steps=2).manifest
    facts = found["facts"]
    assert facts["parts"].keys() == {"peer"} and facts["parts"]["peer"]["tokenizer"] == facts["tokenizer"]
    assert {"train/loss", "train/peer/loss", "train/peer/record_norm"} <= found["metrics"].keys()
    assert "lm_head.weight" in peer_weights(tmp_path)


def test_a_part_is_read_by_its_name(tmp_path):
    mutual(tmp_path, steps=2)
    peer = peer_weights(tmp_path)
    (tmp_path / "p/opd").rename(tmp_path / "p/first")
    again = run(tmp_path, parents={"student": "first/toy/seed3:peer"}, optim={"lr": 0.0}, steps=1)
    assert equal(again.weights, peer)


def test_shared_rows_are_what_the_other_learner_got(tmp_path):
    """A peer that starts elsewhere trains on the student's samples: as a student would on rows that are not its own."""
    shared = both(tmp_path / "shared", of_peer={"prefix": "shared"}, kill_at=0)
    own = both(tmp_path / "own")
    for name in ("reward", "length", "tokens"):
        assert curve(shared.metrics, f"peer/{name}") == curve(shared.metrics, name)
        assert curve(own.metrics, f"peer/{name}") != curve(own.metrics, name)
    assert max(curve(own.metrics, "peer/sampler_gap")) < 1e-5 < 0.1 < min(curve(shared.metrics, "peer/sampler_gap"))
    assert equal(shared.weights, own.weights)


def test_of_several_sources_only_the_prefix_is_shared(tmp_path):
    """What the student's further terms look at is nothing to the peer, which has terms of its own on such rows."""
    data = {"rows": "dataset", "estimator": "mle"}
    alone = both(tmp_path / "alone", of_peer={"prefix": "shared"})
    beside = run(
        tmp_path / "beside",
        parents={"learners.peer.model": OTHER},
        learners={"peer": {"method": {**FULL, "prefix": "shared"}, "optim": {"lr": 0.01}}},
        method={**FULL, "add": [data | {"coef": 0.0}]},
    )
    assert curve(beside.metrics, "peer/tokens")[0] == curve(alone.metrics, "peer/tokens")[0]
    assert curve(beside.metrics, "tokens")[0] > curve(alone.metrics, "tokens")[0]
    both(tmp_path / "each", of_peer={"prefix": "shared", "add": [data]})
    assert not equal(peer_weights(tmp_path / "each"), peer_weights(tmp_path / "alone"))


def test_a_twin_on_shared_rows_stays_a_twin(tmp_path):
    found = both(tmp_path, peer="model/student/seed0", of_peer={"prefix": "shared"})
    assert equal(peer_weights(tmp_path), found.weights)
    rows = [json.loads(line) for line in found.metrics.splitlines()]
    assert all(row["train/loss"] == row["train/peer/loss"] for row in rows)
