"""How many processes a node is, what it asks of Slurm for them, and what cannot be several."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf
from snakemake_executor_plugin_slurm.submit_string import get_submit_command

from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.checks.processes import processes
from opd_steps.graph.nodes import Graph
from opd_steps.slurm.executor import gpus_of_each_machine
from tests.pipeline.checkout import ROOT, Checkout

NODES = {
    "data": {"kind": "data"},
    "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
    "base": {"kind": "pretrain", "model": "init", "data": "data"},
    "teacher": {"kind": "rl", "policy": "base", "data": "data"},
    "student": {"kind": "sft", "student": "init", "data": "data"},
    "opd": {"kind": "opd", "student": "student", "teacher": "teacher", "data": "data"},
    "rollouts": {"kind": "rollout", "policy": "student", "data": "data"},
    "scores": {"kind": "score", "rollouts": "rollouts", "teacher": "teacher"},
}
VLLM = {"engine": {"name": "vllm"}}
SERVER = {"teacher_engine": {"name": "server", "tensor_parallel": 2}}
BOTH = {"engine": {"name": "server", "gpus": 4, "tensor_parallel": 2}, "teacher_engine": {"name": "server", "gpus": 2}}
BESIDE = {"engine": {"name": "server"}}
ELSEWHERE = {"teacher_engine": {"name": "server", "url": "http://host:8000"}}


def build(folder, node: str, resources: dict, **options):
    nodes = NODES | {node: NODES[node] | options | {"resources": resources}}
    OmegaConf.save({"paper": {"title": "t"}, "nodes": nodes}, folder / "toy.yaml")
    graph = checked(Graph([str(folder / "toy.yaml")]))
    return next(n for n in graph.nodes.values() if n.name == node)


@pytest.mark.parametrize(
    ("node", "resources", "options", "count"),
    [
        ("opd", {}, {}, 1),
        ("opd", {"gpu": 1}, {}, 1),
        *((node, {"gpu": 2}, {}, 2) for node in ("base", "student", "teacher", "opd")),
        ("opd", {"processes": 2}, {}, 2),
        ("opd", {"gpu": 4, "processes": 2}, {}, 2),
        ("opd", {"gpu": 2}, VLLM, 1),
        ("opd", {"gpu": 3}, SERVER, 1),
        ("opd", {"gpu": 8}, SERVER, 6),
        ("opd", {"gpu": 8}, BOTH, 2),
        ("opd", {"gpu": 8, "processes": 1}, BOTH, 1),
        ("opd", {"processes": 2}, BESIDE, 2),
        ("opd", {"gpu": 2}, ELSEWHERE, 2),
        ("opd", {"gpu": 1}, BESIDE, 1),
        ("scores", {"gpu": 2}, SERVER, 1),
        *((node, {"gpu": 1}, {}, 1) for node in ("rollouts", "scores", "init")),
    ],
)
def test_one_for_each_gpu_unless_the_node_says_otherwise(tmp_path, node, resources, options, count):
    made = build(tmp_path, node, resources, **options)
    assert processes(made) == count


@pytest.mark.parametrize(
    ("node", "resources", "options", "says"),
    [
        ("opd", {"processes": -1}, {}, "processes: expected at least 0, found -1"),
        (
            "opd",
            {"processes": 2},
            VLLM,
            "processes: engine vllm works in one process: expected 1, found 2; or engine.name: server",
        ),
        (
            "opd",
            {"gpu": 6},
            BOTH,
            r"gpu: expected at least 7 \(one for each of 1 processes, 4 of engine, 2 of teacher_engine\), found 6",
        ),
        (
            "opd",
            {"gpu": 8, "processes": 3},
            BOTH,
            r"gpu: expected at least 9 \(one for each of 3 processes, 4 of engine, 2 of teacher_engine\), found 8",
        ),
        ("scores", {"gpu": 1}, SERVER, r"gpu: expected at least 2 \(2 of teacher_engine\), found 1"),
        ("teacher", {"processes": 2, "gpu": 1}, {}, r"processes: expected at most one for each GPU \(gpu: 1\), found 2"),
        ("rollouts", {"processes": 2}, {}, "processes: only a training is several processes, a node of this kind is one"),
        ("rollouts", {"gpu": 2}, {}, "gpu: this rollout node is one process on one GPU: expected at most 1, found 2"),
        ("scores", {"gpu": 2}, {}, "gpu: this score node is one process on one GPU"),
    ],
)
def test_what_cannot_be_several_is_refused_with_file_and_key(tmp_path, node, resources, options, says):
    with pytest.raises(UserError, match=rf"toy\.yaml: nodes\.{node}\.resources\.{says}") as caught:
        build(tmp_path, node, resources, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "options", "says"),
    [
        ({"gpu": 2}, BESIDE, "engine.gpus: a server beside 2 processes has GPUs of its own: expected at least 1, found 0"),
        ({}, BOTH, "engine.gpus: the node asks for no GPU: expected 0, or resources.gpu"),
        (
            {"gpu": 8},
            {"engine": {"name": "server", "gpus": 3, "tensor_parallel": 2}},
            r"engine.gpus: expected a multiple of tensor_parallel \(2\), found 3",
        ),
        (
            {"gpu": 8},
            {"engine": {"name": "vllm", "gpus": 2}},
            "engine.name: gpus belongs to a server: name: server, or leave it out",
        ),
        (
            {"gpu": 8},
            {"teacher_engine": {"name": "server", "gpus": 2, "url": "http://host:8000"}},
            "teacher_engine.gpus: url names a server that runs already; leave gpus out",
        ),
    ],
)
def test_gpus_of_servers_that_do_not_add_up_are_refused_with_file_and_key(tmp_path, resources, options, says):
    with pytest.raises(UserError, match=rf"toy\.yaml: nodes\.opd\.{says}") as caught:
        build(tmp_path, "opd", resources, **options)
    assert "\n" not in str(caught.value)


def test_resources_are_no_part_of_what_a_result_depends_on(tmp_path):
    assert build(tmp_path, "opd", {}).job_config(0) == build(tmp_path, "opd", {"gpu": 2, "cpus": 8}).job_config(0)


def test_the_rule_starts_as_many_processes_as_its_node_says(tmp_path):
    checkout = Checkout(tmp_path)
    checkout.edit("workflow/papers/smoke.yaml", "vopd: {kind: opd,", "vopd: {kind: opd, resources: {gpu: 2, cpus: 2},")
    text = checkout.snakemake("-n", "-p", "results/smoke/opd/vopd/seed0/manifest.json").stdout
    assert re.search(
        r"export OMP_NUM_THREADS=2 DISTILLERY_MACHINES=1x2\n +exec python -m opd_steps.process.warm opd --processes 2 --config",
        text,
    )
    for kind in ("pretrain", "sft", "rl"):
        assert f"exec python -m opd_steps.process.warm {kind} --processes 1 --config" in text


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_rules_ask_slurm_for_the_gpus_that_nodes_name(nodes):
    """On each machine, for one task with all its CPUs, which starts the processes."""
    rules = (ROOT / "rules/nodes.smk").read_text()
    assert (
        'gpu=ask(kind, "gpu")' in rules
        and 'nodes=ask(kind, "nodes")' in rules
        and 'threads: ask(kind, "cpus")' in rules
        and "KINDS.items()" in rules
    )
    default = yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())["default-resources"]
    asks = {"nodes": nodes, "gpu": 2, "processes": 2, "mem_mb": 9000, "runtime": 30}
    job = SimpleNamespace(threads=8, resources=Resources(default | asks))
    names = {"run_uuid": "u", "slurm_logfile": "l", "comment_str": "c", "account": "", "partition": "", "workdir": ""}
    asked = (get_submit_command(job, names) + gpus_of_each_machine(job)).split()
    assert {"--gpus-per-node=2", "--cpus-per-task=8", f"--nodes={nodes}", "--signal=TERM@120"} <= set(asked)
    assert asked[asked.index("--mem") + 1] == "9000" and asked[asked.index("-t") + 1] == "30"
    assert not any("ntasks" in part for part in asked)


class Resources(dict):
    __getattr__ = dict.__getitem__
