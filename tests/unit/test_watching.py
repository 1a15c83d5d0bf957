"""Measurements and samples while a node trains: they move nothing, survive a kill, keep the best model and end in time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.evaluation.points import nll
from opd_steps.graph import agreement
from opd_steps.graph.equal import unequal
from opd_steps.hooks import held_out
from opd_steps.hooks._asked import answers
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.steps import opd
from opd_steps.tasks.pool import PromptPool
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import NODE, Killed, curve, nodes, read_weights, run
from tests.unit.test_milestones import equal, graph

HELD = {"name": "held_out", "split": "test", "every": 3, "samples": 2, "temperature": 1.0}
SEEN = {"name": "samples", "every": 3, "prompts": 2, "max_new_tokens": 6}


@contextmanager
def measured(*values: float) -> Iterator[None]:
    """What held_out measures, step by step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out._Watch, "_measured", lambda self, policy, step: values[step - 1])
        yield


def without(metrics: bytes, *names: str) -> list[dict]:
    rows = [json.loads(line) for line in metrics.splitlines()]
    return [{key: value for key, value in row.items() if key.removeprefix("train/") not in names} for row in rows]


def test_who_is_looked_at_trains_as_if_nobody_looked(tmp_path):
    found, plain = run(tmp_path / "a", hooks=[HELD, SEEN]), run(tmp_path / "plain")
    assert equal(found.weights, plain.weights)
    assert without(found.metrics, "held", "held_best") == without(plain.metrics)
    held = [(row["step"], row["train/held"]) for row in map(json.loads, found.metrics.splitlines()) if "train/held" in row]
    assert [step for step, _ in held] == [3, 6, 8] and all(value * 4 == round(value * 4) for _, value in held)
    assert curve(found.metrics, "held_best") == [max(value for _, value in held[: i + 1]) for i in range(3)]
    assert not (tmp_path / "plain" / NODE / "samples.jsonl").exists()
    rows = [json.loads(line) for line in (tmp_path / "a" / NODE / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["id"]) for row in rows] == [(step, f"train-{i}") for step in (3, 6, 8) for i in (0, 1)]
    assert all(row["reward"] == float(row["text"].endswith("7")) or row["reward"] in (0, 1) for row in rows)


def test_a_policy_that_holds_another_samples_as_before():
    class Policy:
        def __init__(self, target=None):
            self.model, self.target, self.max_new_tokens, self.temperature = torch.nn.Linear(1, 1), target, 8, 1.0

        def sample_by(self, sampling):
            self.max_new_tokens, self.temperature = sampling["max_new_tokens"], sampling["temperature"]
            if self.target:
                self.target.sample_by(sampling)

    class Pool(list):
        def play(self, policy, ids, seeds, version):
            return policy.max_new_tokens, policy.target.max_new_tokens, policy.model.training

    policy = Policy(Policy())
    assert answers(policy, Pool("ab"), 1, 0.0, 3, 1, "x") == (3, 3, False)
    assert (policy.max_new_tokens, policy.target.max_new_tokens, policy.target.temperature) == (8, 8, 1.0)
    assert policy.model.training and answers(policy, Pool("ab"), 1, 0.0, 0, 1, "x")[0] == 8


def test_measurements_are_those_of_the_weights_of_their_step(tmp_path):
    """That of step 3 is the last of a training of three steps."""
    long, short = run(tmp_path / "long", hooks=[HELD, SEEN]), run(tmp_path / "short", hooks=[HELD, SEEN], steps=3)
    assert curve(long.metrics, "held")[0] == curve(short.metrics, "held")[0]
    lines = lambda folder: (tmp_path / folder / NODE / "samples.jsonl").read_text().splitlines()
    assert lines("long")[:2] == lines("short")


@pytest.mark.parametrize("kill_at", [4, 7, 8])
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path, kill_at):
    """Checkpoints are at 2, 4, 6; a measurement at 3, one at 6."""
    options = {"hooks": [HELD | {"best": True, "patience": 9}, SEEN]}
    whole = run(tmp_path / "whole", **options)
    with pytest.raises(Killed):
        run(tmp_path / "broken", kill_at, **options)
    resumed = run(tmp_path / "broken", **options)
    assert resumed.manifest["files"] == whole.manifest["files"] and resumed.metrics == whole.metrics
    assert {"samples.jsonl", "parts/best/model/model.safetensors"} <= whole.manifest["files"].keys()


@pytest.mark.parametrize("killed", [False, True])
def test_the_training_ends_early_and_the_best_stays(tmp_path, monkeypatch, killed):
    options = {"hooks": [HELD | {"every": 1, "best": True, "patience": 2}]}
    with measured(0.1, 0.5, 0.5, 0.4, 0.9, 0.9, 0.9, 0.9):
        if killed:  # behind the last checkpoint, before anything is published
            with monkeypatch.context() as patch, pytest.raises(Killed):
                patch.setattr(opd, "publish_model", lambda *_: (_ for _ in ()).throw(Killed))
                run(tmp_path / "a", **options)
        found = run(tmp_path / "a", **options)
    assert curve(found.metrics, "held") == [0.1, 0.5, 0.5, 0.4] and curve(found.metrics, "held_best") == [0.1, 0.5, 0.5, 0.5]
    assert equal(read_weights(tmp_path / "a" / NODE / "parts/best"), run(tmp_path / "two", steps=2).weights)
    assert equal(found.weights, run(tmp_path / "four", steps=4).weights)
    assert found.manifest["facts"]["parts"].keys() == {"best"}


def test_less_is_better_of_nats(tmp_path):
    options = {"hooks": [HELD | {"measure": "nll", "every": 1, "patience": 2, "best": True}]}
    with measured(3.0, 2.0, 2.5, 2.2):
        found = run(tmp_path / "a", steps=5, **options)
    assert curve(found.metrics, "held_best") == [3.0, 2.0, 2.0, 2.0] and len(curve(found.metrics, "held")) == 4


@pytest.mark.parametrize(("kind", "role"), [("sft", "student"), ("pretrain", "model"), ("rl", "policy")])
def test_every_kind_of_training_may_be_looked_at(tmp_path, kind, role):
    (tmp_path / "p").mkdir()
    for made in (nodes() / "p").iterdir():
        (tmp_path / "p" / made.name).symlink_to(made)
    hooks = [{"name": "held_out", "split": "test", "every": 2, "measure": "nll"}, SEEN]
    kept = {"steps": 4, "optim": {"lr": 0.01}, "hooks": hooks}
    kept |= {"prompts": 2, "sampling": {"n": 2, "max_new_tokens": 4}} if kind == "rl" else {"batch": 4}
    manifest = Stages(tmp_path).run("seen", kind, {role: "model/student", "data": "data/data"}, **kept)
    folder = tmp_path / f"p/{kind}/seen/seed0"
    held = curve((folder / "metrics.jsonl").read_bytes(), "held")
    policy = CausalLM().policy(folder)
    rows = PromptPool.load(nodes() / "p/data/data/seed0", "test", policy.tokenizer).written("solution")
    with torch.no_grad():
        assert held[-1] == pytest.approx(float(nll(rows, policy, "student").mean()), rel=1e-6)
    assert len(held) == 2 and "samples.jsonl" in manifest["files"] and manifest["metrics"]["train/held:first"] == held[0]


LOOK = "hooks: [{name: held_out, split: test, max_new_tokens: 4, patience: 2, best: true}]"


def test_the_graph_knows_the_best(tmp_path):
    edits = [("keep: {early: 10, late: 30}", LOOK), ("base:early", "base:best")]
    found = graph(tmp_path, *edits)
    base = found.nodes["toy", "pretrain", "base"]
    assert found.nodes["toy", "opd", "student"].parts["teacher"] == "best"
    assert {"train/held", "train/held_best:first"} <= set(base.says.metrics(base))
    code = {"opd_steps/tasks/verifiers/numeric.py", "opd_steps/hooks/held_out.py"}
    assert code <= base.code.keys() and not code & graph(tmp_path).nodes["toy", "pretrain", "base"].code.keys()


def test_preflight_looks_at_what_it_will_ask(tmp_path):
    def asked(options: str = "packed: false") -> set[tuple]:
        edit = ("late: 30}", f"late: 30}}, {options.replace('patience: 2, ', '')}")
        found = agreement.rows(graph(tmp_path, edit), "toy", 0)
        return {(row.split, row.limit, row.column, row.answer) for row in found if row.node == "base"}

    assert asked(LOOK) - asked() == {("test", 128, "", 4)}
    assert asked(LOOK.replace("test, max_new_tokens: 4", "ood, measure: nll")) - asked() == {("ood", 128, "solution", 0)}


def test_claims_say_that_measurements_decided_on_the_steps(tmp_path):
    more = [("keep: {early: 10, late: 30}", LOOK), ("base:early", "base:best")]
    more += [("evaluate:", "  other: {kind: pretrain, model: small, data: data, steps: 40}\nevaluate:")]
    more += [('[base, "base:best"]', '[base, "base:best", other]'), ("left: base.test", "left: other.test")]
    said = lambda *edits: [side["right"] for side in unequal(graph(tmp_path, *more, *edits), "toy", 0)]
    assert said() == ["the best of 40", "the best of 2560"]
    assert said(('right: "base:best.test', 'right: "base.test')) == ["at most 40", "at most 2560"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (LOOK, "base.keep: held_out may end the training before a milestone; leave one of the two out"),
        (LOOK.replace("test", "train"), "base.hooks[0].split: "),
        (LOOK.replace("max_new_tokens: 4, ", ""), "base.hooks[0].max_new_tokens: a pretrain node samples nothing itself"),
        (
            LOOK.replace("patience: 2, ", "").replace("best: true}", "best: true}, {name: held_out, split: ood, measure: nll}"),
            "would draw one curve, train/held",
        ),
        ("hooks: [sparse]", "base.hooks[0]: sparse looks at update_of, which a pretrain node does not have: take an opd node"),
    ],
)
def test_mistakes_end_with_one_line(tmp_path, options, said):
    with pytest.raises(UserError) as error:
        graph(tmp_path, ("late: 30}", f"late: 30}}, {options}"))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_milestone_of_that_name_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"base.hooks\[0\].best: a milestone or learner of this node has the name 'best'"):
        graph(
            tmp_path, ("early: 10, late: 30}", "best: 10}, " + LOOK.replace("patience: 2, ", "")), ("base:early", "base:best")
        )


def test_traces_have_no_prompts_to_ask(tmp_path):
    nodes = (
        "  traces: {kind: rollout, policy: small, data: data}\n  taught: {kind: sft, student: small, data: traces, "
        + LOOK
        + "}\n"
    )
    with pytest.raises(
        UserError, match=r"taught.hooks.* held_out asks prompts of a data node, and this one learns from the rollout"
    ):
        graph(tmp_path, ("evaluate:", nodes + "evaluate:"))
