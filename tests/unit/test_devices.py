"""The GPUs of a job: each belongs to the step's processes or to one server."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.graph.options import Engine, TeacherEngine
from opd_steps.process import devices
from opd_steps.rollout import vllm_process
from opd_steps.rollout.vllm_process import OwnServer


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(devices, "_servers", {})
    monkeypatch.delenv(devices.NAME, raising=False)


def options(kind: type, **changes) -> dict:
    return dataclasses.asdict(kind()) | {"name": "server"} | changes


ENGINES = {
    "engine": options(Engine, gpus=4, tensor_parallel=2),
    "teacher_engine": options(TeacherEngine, tensor_parallel=2),
    "teachers.far.engine": options(TeacherEngine, url="http://host:8000"),
    "teachers.here.engine": options(TeacherEngine, name="local"),
}


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_nobody_shares_and_nobody_is_left_out(processes):
    there = [f"GPU-{i:02x}" for i in range(8)]
    own, servers = devices.shares(there, processes, {"engine": 4, "teacher_engine": 2})
    assert (len(own), [len(found) for found in servers.values()]) == (2, [4, 2])
    assert sorted(itertools.chain(own, *servers.values())) == there


def test_too_few_are_refused():
    with pytest.raises(UserError, match=r"this job sees 2 GPUs, expected 2 of engine, one for each of 1 processes"):
        devices.shares(["0", "1"], 1, {"engine": 2})


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 0), ({"gpus": 2}, 2), ({"tensor_parallel": 4}, 4), ({"gpus": 4, "tensor_parallel": 2}, 4), ({"name": "vllm"}, 0)],
)
def test_how_many_a_server_has_for_itself(changes, count):
    assert devices.wanted(options(Engine, **changes)) == count


def test_what_is_started_sees_its_own_alone(monkeypatch, tmp_path):
    """The environment of the processes and of both servers, as they are launched."""
    monkeypatch.setenv(devices.NAME, "0,1,2,3,4,5,6,7")
    started = []
    monkeypatch.setattr(vllm_process, "Family", lambda command, env, **_: started.append((command, env)) or Alive())
    monkeypatch.setattr(vllm_process, "healthy", lambda url: True)
    monkeypatch.setattr(vllm_process, "engine_length", lambda path, asked: 100)
    monkeypatch.setenv("RANK", "0")
    devices.take(ENGINES, 2)
    for key in ("engine", "teacher_engine"):
        OwnServer("model", ENGINES[key], "float32", 0, tmp_path / "log", key).start()
    (command, engine), (_, teacher) = started
    assert devices.os.environ[devices.NAME] == "0,1"
    assert (engine[devices.NAME], teacher[devices.NAME]) == ("2,3,4,5", "6,7")
    assert "--data-parallel-size 2" in " ".join(command) and "--tensor-parallel-size 2" in " ".join(command)
    assert "RANK" not in engine


class Alive:
    def end(self, grace):
        return 0


def test_a_server_without_gpus_of_its_own_sees_what_the_step_sees(monkeypatch):
    monkeypatch.setenv(devices.NAME, "3")
    devices.take({"engine": options(Engine)}, 1)
    assert devices.os.environ[devices.NAME] == "3" and devices.environment("engine") == {}


def test_without_gpus_nothing_is_shared_out():
    if not torch.cuda.is_available():
        devices.take(ENGINES, 1)
        assert devices.NAME not in devices.os.environ and devices.environment("engine") == {}
