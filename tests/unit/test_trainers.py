"""The trainer verl: what is refused before anything starts, what its workers import, and what it leaves alone."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from opd_steps.config.load import load_root
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checks.any_node import check_node
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.nodes import Graph
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.steps.rl import group_batch
from opd_steps.verl.outcomes import outcome
from opd_steps.verl.scores import sampled_and_top
from opd_steps.verl.settings import Places, micro_batch, settings

ROOT = Path(__file__).parents[2]
VERL = {"trainer": {"name": "verl", "gpus_per_node": 2}, "engine": {"name": "vllm"}}
OPD = VERL | {"kind": "opd", "student": "student_sft", "teacher": "teacher", "data": "data", "teacher_engine": {"name": "vllm"}}
TOPK = {"support": {"name": "teacher_topk", "k": 4}, "signal": "rkl", "estimator": "exact"}


@pytest.fixture(scope="module")
def quickstart() -> dict:
    """Its nodes by kind and name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"papers": ["quickstart"]}
        return {(node.kind, node.name): node for node in Graph.of(load_root(config)).nodes.values()}


@pytest.fixture
def node(quickstart):
    """A node beside the quickstart's, checked as such; of these options alone."""

    def made(**options):
        kind = options["kind"]
        plain = quickstart[kind, "opd_sampled" if kind == "opd" else "teacher"]
        options = merge(KINDS[kind], options, "mine")
        data = plain.parents["data"]
        data = replace(data, options=data.options | {"hints": {"name": "marks"}})
        found = replace(plain, name="mine", options=options, parents=plain.parents | {"data": data})
        check_node(found, "mine")
        return found

    return made


REFUSED = {
    "the whole distribution": ({"method": TOPK | {"support": "full"}}, "of teacher the whole distribution is asked"),
    "hidden states": ({"method": {"estimator": {"name": "hidden_mse", "layers": [1]}}}, "hidden"),
    "other rows": (
        {"method": {"prefix": "teacher"}, "teacher_engine": {"name": "local"}},
        "prefixes teacher: its rows are the student's own",
    ),
    "another length by and by": (
        {"controllers": [{"name": "linear", "sets": "sampling.max_new_tokens", "first": 8, "last": 32}]},
        r"controllers\[0\].sets: not with trainer verl: it samples as it began",
    ),
    "a context": ({"context": "demo"}, "teacher reads another prompt.*engine local"),
    "edited rows": ({"context": "calibrated", "teacher_engine": {"name": "local"}, "sampling": {"n": 2}}, "calibrated"),
    "moving weights": ({"teacher_source": "ema"}, "sources ema|teacher source ema"),
    "weights in four bits": ({"tune": "qlora"}, "tune qlora: it trains whole models, or adapters beside weights as they are"),
    "an adapter beside bf16": ({"tune": "lora", "weights": "bfloat16", "dtype": "bfloat16"}, "weights: .*expected float32"),
    "an adapter that a teacher follows": (
        {"tune": "lora", "teacher_source": "ema", "teacher_engine": {"name": "local"}},
        "tune: not with trainer verl: teacher follows whole weights",
    ),
    "a temperature": ({"sampling": {"temperature": 0.7}}, "temperature.*expected 1, found 0.7"),
    "minibatches that ranks cannot share": ({"prompts": 2, "minibatches": 2, "sampling": {"n": 1}}, "2 rows of a step in 2"),
    "rows that ranks cannot share": ({"prompts": 3, "sampling": {"n": 1}}, "3 rows of a step"),
    "milestones": ({"keep": {"early": 1}}, "milestones"),
    "stop strings": ({"sampling": {"stop": ["b"]}}, "sampling.stop: not with trainer verl: its rows end at end tokens alone"),
    "moments in eight bits": ({"optim": {"eight_bit": True}}, "optim.eight_bit: not with trainer verl"),
    "a local sampler": ({"engine": {"name": "local"}}, "engine.name.*vllm"),
    "a teacher behind an address": (
        {"teacher_engine": {"name": "server", "url": "http://x/v1"}},
        "teacher_engine.name.*vllm or local",
    ),
    "a skipped update": ({"on_nonfinite": "skip"}, "on_nonfinite"),
    "old rows": ({"buffer": {"batches": 2}}, "fresh rows"),
    "machines that do nothing": ({"resources": {"gpu": 2, "nodes": 3}}, "resources.nodes: 2 groups of 2 .*expected 2, found 3"),
    "too few machines": (
        {"resources": {"gpu": 3}},
        "resources.nodes: 2 groups of 2 GPUs, on machines of 3: expected 2, found 1",
    ),
    "too few GPUs of a machine": ({"resources": {"gpu": 1, "nodes": 4}}, "resources.gpu: expected at least .*2, found 1"),
    "machines beside an address": (
        {"trainer": VERL["trainer"] | {"address": "head:6379"}, "resources": {"nodes": 2}},
        "resources.nodes: .*without an address: expected 1, found 2",
    ),
    "machines of the local trainer": ({"trainer": {}, "resources": {"nodes": 2}}, "resources.nodes: .*trainer verl"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_verl_does_not_carry_is_refused_with_the_reason(node, what):
    changes, said = REFUSED[what]
    with pytest.raises(UserError) as error:
        node(**(OPD | changes))
    assert re.search(said, str(error.value)), str(error.value)


def test_what_it_carries(node):
    """Of a server the sampled token and a top k; of a model in the workers anything; outcomes of groups, plugs that look at all rows of an
    update, controllers of the method, a reference."""
    add = [{"signal": "outcome", "estimator": "pg", "coef": 0.5}]
    made = node(**OPD, method=TOPK | {"add": add, "aggregate": "seq_mean"}, prompts=4, sampling={"n": 2})
    assert "train/grad_variance" not in made.says.metrics(made) and "train/divergence" in made.says.metrics(made)
    assert "trainer" in made.job_config(0) and "opd_steps/verl/launch.py" in made.code and "opd_steps/verl/loss.py" in made.code
    node(**VERL, kind="rl", policy="base", data="data", kl=0.1, prompts=8, minibatches=2)
    beside = OPD | {"teacher_engine": {"name": "local"}, "method": {"support": "full", "signal": "jsd", "estimator": "exact"}}
    node(**beside, context="demo", sampling={"temperature": 0.7})
    node(**beside | {"method": {"weight": [{"name": "tip"}]}}, teacher_source="ema")
    node(**OPD, tune="lora")
    node(**OPD, resources={"gpu": 4})
    node(**OPD, resources={"gpu": 2, "nodes": 2})
    node(**beside, resources={"gpu": 3})
    node(**OPD, controllers=[{"name": "linear", "sets": "method.coef", "first": 1.0, "last": 0.5}])


def test_a_local_node_knows_nothing_of_it(node):
    local = node(kind="opd", student="student_sft", teacher="teacher", data="data")
    assert "trainer" not in local.job_config(0) and not [file for file in local.code if "verl" in file]
    with pytest.raises(UserError, match="trainer"):
        node(kind="opd", student="student_sft", teacher="teacher", data="data", trainer={"set": ["a=b"]})


def test_verl_is_told_what_the_node_says(node):
    made = node(**OPD, method=TOPK, prompts=6, sampling={"n": 2, "max_new_tokens": 7}, micro_batch=4, optim={"clip": 0})
    keys = settings(made.options, Places("m", "t", "p", 9, Path("/w")), 4)
    assert micro_batch(made.options) == 3 == keys["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"]
    assert keys["ray_kwargs.ray_init.address"] == "local" and keys["data.max_prompt_length"] == 9
    assert keys["distillation.distillation_loss.topk"] == 4 and keys["actor_rollout_ref.actor.optim.clip_grad"] == float("inf")
    assert not [key for key in keys if "lora" in key]
    found = settings(made.options | {"tune": {"name": "lora", "r": 8}}, Places("m", "t", "p", 9, Path("/w"), "/w/adapter"), 4)
    assert {key: found[key] for key in found.keys() - keys.keys()} == {
        "actor_rollout_ref.model.lora_adapter_path": "/w/adapter",
        "actor_rollout_ref.model.lora_rank": 8,
        "actor_rollout_ref.model.lora": {"merge": True},
    }
    made.options["trainer"]["set"] = ["data.shuffle=true"]
    assert settings(made.options, Places("m", "", "p", 9, Path("/w")), 0)["data.shuffle"] == "yaml:true"
    made.options["trainer"]["set"] = ["data.shuffle"]
    with pytest.raises(UserError, match=r"trainer.set\[0\]"):
        settings(made.options, Places("m", "", "p", 9, Path("/w")), 0)


def test_the_workers_import_what_knows_torch_alone():
    """Their environment has another omegaconf, and none of what our steps need beside torch."""
    named = ", ".join(f"opd_steps.verl.{name}" for name in ("loss", "optimizer", "scores"))
    plugs = "[plugs.load(f'objectives/{g}', {'name': n}) for g in ('signals', 'estimators') for n in names(f'objectives/{g}') "
    plugs += "if n not in ('mix', 'hidden_mse')]"
    code = f"import {named}, sys; from opd_steps.config import plugs; from opd_steps.config.plug_schema import names; {plugs}; "
    code += "print([m for m in ('transformers', 'omegaconf', 'pyarrow', 'datasets', 'peft', 'snakemake', 'scipy', 'verl') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_server_says_the_sampled_token_beside_the_likeliest():
    said = lambda **ranks: {int(name[1:]): SimpleNamespace(rank=rank, logprob=-float(rank)) for name, rank in ranks.items()}
    ids, logps = sampled_and_top([None, said(t7=3, t2=1, t5=2), said(t2=1, t9=2)], [4, 7, 9], 2)
    assert ids == [[7, 2, 5], [9, 2, 9], [0, 0, 0]] and logps == [[-3, -1, -2], [-2, -1, -2], [0, 0, 0]]
    assert sampled_and_top([None, said(t7=3), said(t9=2)], [4, 7, 9], 0) == ([[7], [9], [0]], [[-3], [-2], [0]])
    with pytest.raises(ValueError, match="gave 1 log-probs of a token, 2"):
        sampled_and_top([None, said(t7=1)], [4, 7], 2)


def test_outcomes_of_groups_are_those_of_the_local_step():
    """Rows as verl hands them over, in any order: the same advantage for each."""
    options = {"prompts": 3, "dynamic_sampling": False, "rewards": [-1.0, 1.0], "overlong_buffer": 3, "max_refills": 1}
    options |= {"sampling": {"n": 2, "max_new_tokens": 6}, "advantage": "group_mean", "divide_by_std": True}
    lengths, rewards = [6, 2, 3, 5, 4, 4], torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    rows = Trajectory(
        [[1]] * 6, [torch.ones(n, dtype=torch.long) for n in lengths], torch.tensor([5, 5, 2, 2, 9, 9]), reward_B=rewards
    )
    pool = SimpleNamespace(pick=lambda *_: [5, 2, 9], play=lambda *_: rows)
    ours = group_batch(None, pool, 1, 0, options)
    order = [4, 0, 3, 5, 2, 1]
    theirs, figures = outcome("rl", rows.rows(order), options)
    assert torch.equal(theirs, ours.columns["outcome"][order])
    assert {name: ours.metrics[name] for name in figures} == figures
    assert outcome("opd", rows, {}) == (None, {})
