"""A training job that was killed at any moment and started again ends with the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opd_steps.graph.nodes import Graph
from tests.pipeline.checkout import ROOT

KILLS = 5  # of each node: 25 in all
NODES = [("pretrain", "base"), ("rl", "teacher"), ("sft", "student_sft"), ("opd", "opd_jsd"), ("opd", "lightning")]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def link_to_tests(copy) -> dict:
    """Environment in which the checkout's own package runs, with this test package beside it."""
    (copy.folder / "tests").symlink_to(ROOT / "tests")
    return os.environ | {"PYTHONPATH": str(copy.folder), "OMP_NUM_THREADS": "1"}


def killed(copy, paper: str, kind: str, name: str, kills: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Files of a node's finished run, and of one that was killed so many times and went on."""
    folder = copy.folder / f"results/{paper}/{kind}/{name}/seed0"
    unbroken = tree(folder)
    shutil.rmtree(folder)
    command = [sys.executable, "-m", "tests.pipeline.killer", "--paper", paper, "--kind", kind, "--node", name]
    env = link_to_tests(copy)
    run = subprocess.run([*command, "--kills", str(kills)], cwd=copy.folder, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    done = json.loads(run.stdout)
    assert done["kills"] >= kills
    assert done["resumed"] >= 1
    return unbroken, tree(folder)


@pytest.mark.parametrize(("kind", "name"), NODES)
def test_killed_at_random_moments(copy, kind, name):
    unbroken, resumed = killed(copy, "smoke", kind, name, KILLS)
    assert resumed.keys() == unbroken.keys()
    assert [n for n in unbroken if resumed[n] != unbroken[n]] == []


def test_sigterm_saves_a_checkpoint_and_the_job_goes_on_from_it(copy, monkeypatch):
    """With steps enough that the signal comes among them; the same job all three times, or there would be nothing to go on from."""
    copy.edit("workflow/papers/smoke.yaml", "opd: {steps: 4, prompts: 8,", "opd: {steps: 80, prompts: 8,")
    monkeypatch.chdir(copy.folder)
    node = Graph(["smoke"], "tiny").nodes["smoke", "opd", "vopd"]
    folder, work, env = copy.folder / "results" / node.path(0), copy.folder / "results/.work", link_to_tests(copy)
    step = [sys.executable, "-m", "opd_steps.steps.opd", "--code", json.dumps(node.code), "--config", node.job_config(0)]
    run = lambda: subprocess.Popen(
        [*step, "--out", str(folder / "manifest.json")],
        cwd=copy.folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shutil.rmtree(folder)
    whole = run()
    said, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    unbroken = tree(folder)
    shutil.rmtree(folder)

    first = run()
    deadline = time.monotonic() + 120
    while not list(work.glob("*/checkpoint-*[0-9]")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM and "its checkpoint is saved" in said
    assert not folder.exists()
    saved = int(next(work.glob("*/checkpoint-*[0-9]")).name.split("-")[1])
    rows = next(work.glob("*/metrics.jsonl")).read_text().splitlines()
    assert json.loads(rows[-1])["step"] == saved < 80

    second = run()
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0 and f"resuming after step {saved}" in said
    assert tree(folder) == unbroken


def test_a_second_process_on_the_same_node_is_refused(copy, monkeypatch):
    from opd_steps.errors import UserError
    from opd_steps.store.artifacts import Job

    monkeypatch.chdir(copy.folder)
    node = Graph(["smoke"], "tiny").nodes["smoke", "opd", "vopd"]
    config, out = json.loads(node.job_config(0)), copy.folder / "results/smoke/opd/vopd/seed0/manifest.json"
    with (
        Job(config, node.code, out),
        pytest.raises(UserError, match=f"another process works on this node: host .* pid {os.getpid()}"),
    ):
        Job(config, node.code, out).__enter__()
