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
    for name in ("loss", "entropy", "length", "reward", "grad_norm"):
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


def test_a_students_server_that_is_killed_is_started_again_with_the_newest_weights(stages, one):
    process, out = begin(stages, "killed", 2, engine=SERVER)
    until_step(stages, "killed", 3, process, LIMIT)
    (server,) = [pid for pid in processes(str(stages.results / "p/model/student")) if _is_server(pid)]
    os.kill(server, signal.SIGKILL)
    assert_same(finish(stages, "killed", process, out), one)
    log = (stages.results / "killed.log").read_text()
    assert len(re.findall(r"the student's server is gone \(.*\); starting it again", log)) == 1


def test_sigterm_while_a_server_hangs_saves_and_ends(stages):
    """Of all ranks, whichever of them waits for it; what follows is that no process is left."""
    process, _ = begin(stages, "ended", 2, engine=SERVER, steps=4000)
    until_step(stages, "ended", 3, process, LIMIT)
    for pid in processes(str(stages.results / "p/model/student")):
        if _is_server(pid):
            os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert re.search(
        r"stopped by signal 15 after step \d+; its checkpoint is saved", (stages.results / "ended.log").read_text()
    )
    end = time.monotonic() + 60
    while processes(str(stages.results / "p/model")) or processes("VLLM::"):
        assert time.monotonic() < end, "a server outlives its step"
        time.sleep(0.2)


def _is_server(pid: int) -> bool:
    return "opd_steps.rollout.vllm_serve" in Path(f"/proc/{pid}/cmdline").read_text()
