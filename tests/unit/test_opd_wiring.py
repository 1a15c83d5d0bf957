"""What the step `opd` loads and groups: no model that nobody asks, and outcome advantages within samples of one sampler."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from opd_steps.config.asks import Asks
from opd_steps.config.needs import label
from opd_steps.errors import UserError
from opd_steps.graph import train_metrics
from opd_steps.graph.checks.method_rules import LIVE, check_stream
from opd_steps.loop.objective import Objective
from opd_steps.objectives.outcome import group_advantage
from opd_steps.rollout.table import write_rollouts
from opd_steps.steps._rows import pass_rates
from tests.unit.opd_toys import curve, node, run
from tests.unit.toy_rows import solutions

UNREADABLE = {"reference": "model/hollow/seed2"}
DATA = label({"name": "dataset", "column": "solution"})


def target(lam: float) -> dict:
    return {"target": {"name": "extrapolate", "lam": lam}}


def test_lam_1_is_vanilla_to_the_bit_and_loads_no_reference(tmp_path):
    assert "reference" not in Objective.from_method(node(method=target(1.0))["method"], 4).asks()
    assert Objective.from_method(node(method=target(1.25))["method"], 4).asks()["reference"] == Asks(sampled=True)
    one = run(tmp_path / "a", parents=UNREADABLE, steps=4, method=target(1.0))
    vanilla = run(tmp_path / "b", parents={"reference": None}, steps=4)
    assert one.metrics == vanilla.metrics
    for name, value in one.weights.items():
        assert torch.equal(value, vanilla.weights[name])
    with pytest.raises(UserError, match=r"hollow.*cannot load this model"):
        run(tmp_path / "c", parents=UNREADABLE, steps=2, method=target(1.25))
    assert run(tmp_path / "d", steps=2, method=target(1.25)).metrics != vanilla.metrics


def test_a_reference_that_a_controller_will_ask_is_loaded(tmp_path):
    grows = [{"name": "linear", "sets": "method.target.lam", "first": 1.0, "last": 1.5}]
    with pytest.raises(UserError, match=r"hollow.*cannot load this model"):
        run(tmp_path / "a", parents=UNREADABLE, steps=3, method=target(1.0), controllers=grows)
    found = run(tmp_path / "b", steps=3, method=target(1.0), controllers=grows)
    assert curve(found.metrics, "lam") == pytest.approx([1, 7 / 6, 8 / 6])


def test_sources_and_outcomes_that_a_controller_will_ask_are_there(tmp_path):
    for path, to in (("method.prefix", {"name": "dataset", "column": "solution"}), ("method.signal", {"name": "outcome"})):
        later = [{"name": "switch", "sets": path, "to": to, "at": 0.5}]
        assert run(tmp_path / path, steps=3, controllers=later).metrics.count(b"\n") == 3


def test_outcome_advantages_compare_samples_of_one_prompt_by_one_sampler(tmp_path, monkeypatch):
    seen = []
    backward = Objective.backward

    def spy(self, policy, batch, columns, *args):
        seen.append((batch, columns))
        return backward(self, policy, batch, columns, *args)

    monkeypatch.setattr(Objective, "backward", spy)
    add = [{"rows": "teacher"}, {"rows": "dataset", "estimator": "mle"}]
    run(tmp_path / "a", steps=3, sampling={"n": 4}, method={"signal": "outcome", "add": add})
    mixed = False
    for batch, columns in seen:
        sources = batch.extra["source"]
        assert sorted(sources) == [""] * 12 + [DATA] * 12 + ["teacher"] * 12 and sources[:12] == [""] * 12
        for source in ("", "teacher"):
            at = [i for i, s in enumerate(sources) if s == source]
            own = group_advantage(batch.reward_B[at], batch.prompt_B[at])
            torch.testing.assert_close(columns["outcome"][at], own, atol=0, rtol=0)
            mixed |= bool((own != 0).any())
        taught, data = ([i for i, s in enumerate(sources) if s == name] for name in ("teacher", DATA))
        assert batch.prompt_B[:12].tolist() == batch.prompt_B[taught].tolist()  # so grouping by prompt alone would mix them
        assert (columns["outcome"][data] == 0).all() and batch.reward_B[data].isnan().all()
    assert mixed


METHODS = [
    {},
    {"baseline": {"name": "neg_kl", "support": "student_topk", "k": 4}, "estimator": {"name": "pg", "ratio": "sampler"}},
    {"signal": "power", "support": {"name": "student_topk", "k": 4}},
    {"support": "full"},
    {"signal": "outcome"},
    {"estimator": "mle"},
    {"estimator": "mle", "add": [{"against": "reference", "estimator": "k3"}]},
    {"estimator": "k2", "weight": ["outcome_is", "balance"], "prefix": {"name": "teacher"}},
    {"estimator": "clamped", "support": {"name": "student_topk", "k": 4}, "weight": [{"name": "overlap_decay", "k": 4}]},
    {"estimator": "state_advantage", "support": "full", "weight": ["pass_rate"]},
    {"estimator": "exact", "support": "full", "signal": "jsd", "prefix": {"name": "dataset"}},
    {"estimator": "k3_clamped", "add": [{"rows": "dataset", "estimator": "mle"}, {"against": "sampler", "estimator": "k2"}]},
    {"weight": ["freshness"], "rows": "student", "prefix": {"name": "dataset"}},
    {"where": [{"name": "more_likely_by", "first": "teacher", "second": "reference"}], "estimator": "k1"},
]


@pytest.mark.parametrize("method", METHODS, ids=json.dumps)
def test_a_node_draws_the_curves_that_its_options_promise(tmp_path, method):
    options = node(method=method)
    for row in (options["method"], *options["method"]["add"]):
        check_stream(row, "m", {"teacher": LIVE, "reference": LIVE})
    lines = run(tmp_path / "a", steps=1, method=method).metrics.splitlines()
    drawn = {name.removeprefix("train/") for line in lines for name in json.loads(line)} - {"step"}
    assert drawn == set(train_metrics.opd_curves(options))


@pytest.mark.parametrize(
    "buffer", [{"batches": 1}, {"batches": 2}, {"passes": 2}, {"batches": 2, "mixed": True}], ids=json.dumps
)
def test_a_buffer_draws_the_curves_that_it_promises(tmp_path, buffer):
    lines = run(tmp_path / "a", steps=2, buffer=buffer).metrics.splitlines()
    drawn = {name.removeprefix("train/") for line in lines for name in json.loads(line)} - {"step"}
    assert drawn == set(train_metrics.opd_curves(node(buffer=buffer)))
    assert ("age" in drawn) == (buffer != {"batches": 1})


def test_data_rows_in_a_buffer_are_as_old_as_the_rest(tmp_path):
    metrics = run(tmp_path / "a", steps=3, buffer={"batches": 3}, method={"add": [{"rows": "dataset"}]}).metrics
    assert curve(metrics, "age") == [0, 1, 2]


def test_pass_rates_are_shares_of_correct_samples(tmp_path):
    rows = solutions(4).with_columns(
        prompt_B=torch.tensor([4, 4, 2, 4]),
        logp=[torch.zeros(len(a)) for a in solutions(4).actions],
        reward_B=torch.tensor([1.0, 0.0, 1.0, 0.0]),
        version_B=torch.zeros(4, dtype=torch.long),
        ended_B=torch.ones(4, dtype=torch.bool),
    )
    write_rollouts(tmp_path, rows, list("abcd"), list("abcd"))
    assert pass_rates(SimpleNamespace(path=lambda role: tmp_path)) == {4: pytest.approx(1 / 3), 2: 1.0}
