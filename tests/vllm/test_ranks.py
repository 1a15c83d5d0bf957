"""Two ranks whose student and teacher are servers of vLLM train as one process does, and go on when one of the servers dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.pipeline.stages import Stages
from tests.vllm.conftest import FRESH, SMALL, sums
from tests.vllm.test_opd import PARENTS, curve, processes, until_step

TOPK = {"signal": "rkl", "support": {"name": "teacher_topk", "k": 4}, "estimator": "exact"}
LIMIT = 1800  # seconds, of a busy machine
SERVER = SMALL | {"name": "server", "start_timeout": LIMIT}
STEPS = 6
CURVES = ("loss", "entropy", "length", "reward", "grad_norm")


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Stages:
    found = Stages(tmp_path_factory.mktemp("ranks") / "results")
    sums(found, train=500, test=20, ood=5)
    for name, spread in (("student", 0.2), ("teacher", 0.3)):
        found.run(name, "model", {"data": "data/data"}, config=FRESH | {"initializer_range": spread})
    return found


def begin(stages: Stages, name: str, count: int, **changes) -> tuple[subprocess.Popen, Path]:
    """The step as its rule starts it, in so many processes; and its manifest."""
    options = {"steps": STEPS, "prompts": 8, "sampling": {"n": 2, "max_new_tokens": 12}, "checkpoint_every": 2}
    options |= {"optim": {"lr": 3e-3, "eps": 1e-4}, "method": TOPK} | changes
    config, out = stages.job(name, "opd", PARENTS, **options)
    command = [sys.executable, "-m", "opd_steps.process.warm", "opd", "--processes", str(count)]
    command += ["--config", json.dumps(config), "--out", str(out)]
    log = (stages.results / f"{name}.log").open("a")
    return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": str(count)}), out


def finish(stages: Stages, name: str, process: subprocess.Popen, out: Path) -> Path:
    assert process.wait(2 * LIMIT) == 0, (stages.results / f"{name}.log").read_text()[-3000:]
    return out.parent


@pytest.fixture(scope="module")
def one(stages) -> Path:
    """One process, with vLLM in it, and the teacher's torch model."""
    return finish(stages, "one", *begin(stages, "one", 1, engine=SMALL | {"name": "vllm"}))


def assert_same(found: Path, expected: Path) -> None:
    for name in CURVES:
        gap = np.abs(curve(found, name) - curve(expected, name)).max()
        assert gap < 1e-4, f"{name}: {gap}"
    weights, other = (load_file(folder / "model/model.safetensors") for folder in (found, expected))
    assert weights.keys() == other.keys()
    for name, value in weights.items():
        assert float((value - other[name]).abs().max()) < 1e-4, name


def test_two_ranks_and_two_servers_train_as_one_process(stages, one):
    """Rows are scored before the last one of their step is sampled; the first rank's own clock says so."""
    folder = finish(stages, "both", *begin(stages, "both", 2, engine=SERVER, teacher_engine=SERVER))
    assert_same(folder, one)
    assert np.abs(curve(folder, "loss")).max() > 1e-2 and curve(folder, "sampler_gap_max").max() < 1e-4
    seconds = json.loads(folder.with_name("seed0.timing.json").read_text())["engines_s"]
    assert seconds["sample"] > 0 and seconds["sample+score"] > 0
    assert processes(str(stages.results / "p/model")) == []


def test_one_step_off_two_ranks_and_servers_train_as_one_process_in_turn(stages):
    """Rows are sampled while the step before trains, or before its update: the same ones."""
    off = {"buffer": {"ahead": True}, "steps": 4}
    alone = finish(stages, "off_one", *begin(stages, "off_one", 1, engine=SMALL | {"name": "vllm"}, **off))
    folder = finish(stages, "off", *begin(stages, "off", 2, engine=SERVER, teacher_engine=SERVER, **off))
    assert_same(folder, alone)
    assert curve(folder, "age").tolist() == [0, 1, 1, 1]


def test_a_students_server_is_started_again_when_it_dies_and_waited_for_no_longer_than_sigterm(stages, one):
    """Killed, it comes back with the newest weights, and the run goes on as if nothing had been. Stopped, it says nothing: SIGTERM ends
    all ranks at once, whichever of them wait for it, and the steps before are saved."""
    process, _ = begin(stages, "ended", 2, engine=SERVER, steps=4000)
    until_step(stages, "ended", 3, process, LIMIT)
    os.kill(_server(stages), signal.SIGKILL)
    until_step(stages, "ended", STEPS, process, LIMIT)
    log = lambda: (stages.results / "ended.log").read_text()
    assert len(re.findall(r"the student's server is gone \(.*\); starting it again", log())) == 1
    os.kill(_server(stages), signal.SIGSTOP)
    time.sleep(3)  # longer than a step
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert re.search(r"stopped by signal 15 after step \d+; its checkpoint is saved", log())
    (work,) = (stages.results / ".work").glob("p.opd.ended.*")
    assert list(work.glob("checkpoint-*"))
    found = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()][:STEPS]
    for name in CURVES:
        gap = np.abs(np.array([row[f"train/{name}"] for row in found]) - curve(one, name)).max()
        assert gap < 1e-4, f"{name}: {gap}"
    end = time.monotonic() + 60
    while processes(str(stages.results / "p/model")) or processes("VLLM::"):
        assert time.monotonic() < end, "a server outlives its step"
        time.sleep(0.2)


def _server(stages: Stages) -> int:
    """The process of the student's server that answers HTTP."""
    (found,) = [pid for pid in processes(str(stages.results / "p/model/student")) if _is_server(pid)]
    return found


def _is_server(pid: int) -> bool:
    return "opd_steps.rollout.vllm_serve" in Path(f"/proc/{pid}/cmdline").read_text()
