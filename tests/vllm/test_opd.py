"""On-policy distillation whose student, or teacher, is a real vLLM: the same learning as without, after any end."""

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

from opd_steps.store.artifacts import read_manifest
from tests.pipeline.stages import Stages
from tests.vllm.conftest import FRESH, SMALL, sums

PARENTS = {"student": "model/student", "teacher": "model/teacher", "data": "data/data"}
EXACT = {"signal": "rkl", "support": "full", "estimator": "exact"}
METHODS = {"sampled": {}, "topk": EXACT | {"support": {"name": "teacher_topk", "k": 4}}, "whole": EXACT}
STEPS = 80
SEEDS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Stages:
    found = Stages(tmp_path_factory.mktemp("opd") / "results")
    sums(found, train=500, test=20, ood=5)
    for name, spread in (("student", 0.2), ("teacher", 0.3)):
        found.run(name, "model", {"data": "data/data"}, config=FRESH | {"initializer_range": spread})
    return found


def begin(stages: Stages, name: str, seed: int = 0, parents: dict = PARENTS, **changes) -> tuple[subprocess.Popen, Path]:
    """The step in a process of its own, as a rule starts it; and its manifest."""
    options = {"steps": STEPS, "prompts": 16, "sampling": {"n": 2, "max_new_tokens": 12}, "checkpoint_every": 4}
    options |= {"optim": {"lr": 3e-3}, "method": EXACT} | changes
    for role in ("engine", "teacher_engine"):
        if role in options:
            options[role] = SMALL | options[role]
    config, out = stages.job(name, "opd", parents, **options)
    config["seed"] = seed
    command = [sys.executable, "-m", "opd_steps.steps.opd", "--config", json.dumps(config), "--out", str(out)]
    log = (stages.results / f"{name}.log").open("a")
    return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}), out


def finish(stages: Stages, name: str, **changes) -> Path:
    process, out = begin(stages, name, **changes)
    assert process.wait(300) == 0, (stages.results / f"{name}.log").read_text()[-3000:]
    return out.parent


def curve(folder: Path, name: str) -> np.ndarray:
    return np.array([json.loads(line)[f"train/{name}"] for line in (folder / "metrics.jsonl").read_text().splitlines()])


def until_step(stages: Stages, name: str, step: int, process: subprocess.Popen, limit: float = 240) -> None:
    """Wait until the log of metrics has that many lines."""
    end = time.monotonic() + limit
    work = stages.results / ".work"
    while not any(len(p.read_text().splitlines()) >= step for p in work.glob(f"p.opd.{name}.*/metrics.jsonl")):
        assert process.poll() is None and time.monotonic() < end, (stages.results / f"{name}.log").read_text()[-3000:]
        time.sleep(0.01)


def processes(path: str) -> list[int]:
    """Processes whose command line names the path."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if path in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def vllm(stages) -> Path:
    return finish(stages, "vllm", engine={"name": "vllm"})


def test_the_samples_have_the_same_distribution(stages):
    """Weights that do not move: each step is an independent draw, and the means over steps differ by noise alone."""
    still = {"optim": {"lr": 1e-12}, "steps": 40}
    local, other = finish(stages, "still_local", **still), finish(stages, "still_vllm", engine={"name": "vllm"}, **still)
    for name in ("loss", "entropy", "length", "log_ratio"):
        gap = curve(local, name) - curve(other, name)
        assert abs(gap.mean()) < 4 * gap.std(ddof=1) / len(gap) ** 0.5, name
    assert curve(other, "sampler_gap_max").max() < 1e-4
    assert not np.array_equal(curve(local, "loss"), curve(other, "loss"))


def test_the_same_learning_as_with_the_local_engine(stages, vllm):
    """Its curve, in five parts, lies where those of five local runs of other seeds lie; and it falls."""
    local = np.array([curve(finish(stages, f"local{s}", seed=s), "loss") for s in SEEDS]).reshape(len(SEEDS), 5, -1).mean(-1)
    found = curve(vllm, "loss").reshape(5, -1).mean(-1)
    spread = local.std(0, ddof=1) * (1 + 1 / len(SEEDS)) ** 0.5
    assert (np.abs(found - local.mean(0)) < 5 * spread).all()  # t with 4 degrees of freedom: five parts at .7 % each
    assert found[-1] < 0.7 * found[0]
    assert curve(vllm, "sampler_gap_max").max() < 1e-4


def test_killed_and_resumed_it_ends_with_the_same_bytes(stages, vllm):
    process, _ = begin(stages, "killed", engine={"name": "vllm"})
    until_step(stages, "killed", 5, process)
    process.kill()
    process.wait()
    folder = finish(stages, "killed", engine={"name": "vllm"})
    assert "resuming after step" in (stages.results / "killed.log").read_text()
    assert (folder / "metrics.jsonl").read_bytes() == (vllm / "metrics.jsonl").read_bytes()
    assert (folder / "model/model.safetensors").read_bytes() == (vllm / "model/model.safetensors").read_bytes()


@pytest.mark.parametrize("asks", list(METHODS))
@pytest.mark.parametrize("where", ["vllm", "server"])
def test_a_teacher_elsewhere_teaches_the_same(stages, where, asks):
    """Losses step by step as with the torch teacher."""
    here = finish(stages, f"here_{asks}", method=METHODS[asks], steps=5)
    there = finish(stages, f"there_{where}_{asks}", method=METHODS[asks], steps=5, teacher_engine={"name": where})
    assert np.abs(curve(here, "loss") - curve(there, "loss")).max() < 1e-3
    assert np.abs(curve(here, "loss")).max() > 1e-2
    assert processes(str(stages.results / "p/model/teacher")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_is_left_behind(stages, number):
    """At SIGTERM it saves and ends within KillWait, even if its server hangs."""
    name = f"ended_{number.name}"
    process, _ = begin(stages, name, teacher_engine={"name": "server"}, steps=4000)
    until_step(stages, name, 3, process)
    served = str(stages.results / "p/model/teacher")
    assert processes(served)
    if number == signal.SIGTERM:
        for pid in processes(served):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3)  # longer than a step
    process.send_signal(number)
    assert process.wait(25) == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    if number == signal.SIGTERM:
        assert re.search(
            r"stopped by signal 15 after step \d+; its checkpoint is saved", (stages.results / f"{name}.log").read_text()
        )
        assert list((stages.results / ".work").glob(f"p.opd.{name}.*/checkpoint-*"))
    end = time.monotonic() + 60
    while processes(served) or processes("VLLM::"):
        assert time.monotonic() < end, "the server outlives its step"
        time.sleep(0.2)


def test_a_failing_step_leaves_no_server(stages):
    too_many = EXACT | {"support": {"name": "teacher_topk", "k": 4000}}
    process, _ = begin(stages, "failing", teacher_engine={"name": "server"}, method=too_many)
    assert process.wait(240) == 2
    assert processes(str(stages.results / "p/model/teacher")) == []


@pytest.mark.parametrize(
    ("role", "engine", "says"),
    [
        (
            "engine",
            {"name": "vllm", "max_model_len": 12},
            r"engine\.max_model_len: the longest row may have \d tokens of prompt and 12 of",
        ),
        (
            "teacher_engine",
            {"name": "server", "max_model_len": 12},
            r"teacher_engine\.max_model_len: the longest row may have \d tokens of",
        ),
    ],
)
def test_a_length_that_cuts_is_refused_before_anything_starts(stages, role, engine, says):
    name = f"short_{role}"
    process, _ = begin(stages, name, **{role: engine})
    assert process.wait(120) == 2
    text = (stages.results / f"{name}.log").read_text()
    assert re.search(rf"^distillery: error: {says}", text, re.M) and "Traceback" not in text
    assert list((stages.results / ".work").glob(f"p.opd.{name}.*/teacher_server.log")) == []


def test_teachers_by_name_have_engines_of_their_own(stages):
    """Two in one step, a term against each: what they say is what their torch models say."""
    roles = {"teachers.one.model": "model/teacher", "teachers.two.model": "model/student"}
    parents = {"student": "model/student", "data": "data/data"} | roles
    method = {"against": "one", **EXACT, "add": [{"against": "two", "estimator": "k2"}]}
    found = []
    for engines in (("local", "local"), ("vllm", "server")):
        one, two = ({"engine": {"name": name, **({} if name == "local" else SMALL)}} for name in engines)
        named = {"teachers": {"one": one, "two": two}, "method": method, "steps": 6}
        folder = finish(stages, f"named_{engines[0]}", parents=parents, **named)
        found.append([curve(folder, name) for name in ("loss", "log_ratio", "add0_log_ratio")])
    assert np.abs(np.array(found[0]) - np.array(found[1])).max() < 1e-4
    assert np.abs(np.array(found[0])[2]).max() > 1e-3  # the student moves away from its start


def test_another_tokenizer_is_refused_before_a_server_starts(stages):
    stages.run("foreign", "model", config=FRESH, tokenizer="byte")
    process, _ = begin(stages, "foreign", parents=PARENTS | {"teacher": "model/foreign"}, teacher_engine={"name": "server"})
    assert process.wait(120) == 2
    text = (stages.results / "foreign.log").read_text()
    assert "the teacher's tokenizer (vocabulary, special tokens or chat template) is not the student's" in text
    assert list((stages.results / ".work").glob("p.opd.foreign.*/teacher_server.log")) == []


def test_facts_name_the_teacher(stages, vllm):
    assert read_manifest(vllm)["facts"]["teacher"]
