"""Ends of processes: a family is gone whoever of it was killed, and what waits for others ends when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opd_steps.process.lifetime import Family

# a leader, its spawned child and grandchild, as vLLM has them: the pids of all three, then they sleep
SERVER = """
import multiprocessing, os, time

def work(depth):
    print(os.getpid(), flush=True)
    if depth:
        multiprocessing.get_context("spawn").Process(target=work, args=(depth - 1,)).start()
    time.sleep(100)
"""
PLAIN = SERVER + "\nif __name__ == '__main__':\n    work(2)\n"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.fixture
def served(tmp_path):
    """A package in the place of vLLM, whose server has an engine and a worker; its environment."""
    folder = tmp_path / "vllm/entrypoints/openai"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    (tmp_path / "work.py").write_text(SERVER)
    (folder / "api_server.py").write_text("import work\nif __name__ == '__main__':\n    work.work(2)\n")
    return os.environ | {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}


def three(stream) -> list[int]:
    return [int(stream.readline()) for _ in range(3)]


@pytest.mark.parametrize("who", [0, 1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nobody_is_left_whoever_was_killed(tmp_path, who, number):
    """Of a server that takes no care of its own."""
    (tmp_path / "plain.py").write_text(PLAIN)
    family = Family([sys.executable, str(tmp_path / "plain.py")], stdout=subprocess.PIPE)
    pids = three(family._leader.stdout)
    os.kill(pids[who], number)
    time.sleep(0.1)
    assert family.alive() == (who != 0 or number == signal.SIGSTOP)
    begun = time.monotonic()
    status = family.end(1)
    assert gone(pids, 0.5) and time.monotonic() - begun < 5
    assert not family.alive() and family.end(1) == status  # once more: nothing


@pytest.mark.parametrize("who", [0, 1])
def test_each_process_of_a_server_goes_with_the_one_that_started_it(served, who):
    """Nobody has to notice: the step may be busy, or gone."""
    server = subprocess.Popen([sys.executable, "-m", "opd_steps.rollout.vllm_serve"], env=served, stdout=subprocess.PIPE)
    pids = three(server.stdout)
    os.kill(pids[who], signal.SIGKILL)
    assert gone(pids[who:], 5)
    assert [alive(pid) for pid in pids[:who]] == [True] * who
    server.kill()
    assert gone(pids, 5)
    server.wait()


def test_a_server_goes_with_a_step_that_is_killed(served):
    code = "import sys, time; from opd_steps.process.lifetime import Family; "
    code += "Family([sys.executable, '-m', 'opd_steps.rollout.vllm_serve']); time.sleep(100)"
    step = subprocess.Popen([sys.executable, "-c", code], env=served, stdout=subprocess.PIPE)
    pids = three(step.stdout)
    step.kill()
    assert gone(pids, 5)
    step.wait()


def test_a_deaf_family_goes_on_until_it_is_ended():
    """It and its children hear no SIGTERM; its end, or that of who started it, is theirs."""
    code = "import subprocess; child = subprocess.Popen(['sleep', '100']); print(child.pid, flush=True); child.wait()"
    family = Family([sys.executable, "-c", code], deaf=True, stdout=subprocess.PIPE)
    child = int(family._leader.stdout.readline())
    for pid in (family.pid, child):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    assert not gone([family.pid], 0.3) and family.alive() and alive(child)
    assert family.end(100.0) == -signal.SIGKILL and gone([child], 5)


WAITING = """
import os, signal, sys, time
from opd_steps.process.lifetime import StopFlag, Stopped, until_stopped
stop = StopFlag()
early = sys.argv[1] == "before"
print("ready", flush=True)
while early and not stop.wanted:
    time.sleep(0.01)
try:
    with until_stopped():
        time.sleep(100)
except Stopped:
    print("stopped", stop.wanted)
"""


@pytest.mark.parametrize("when", ["before", "within"])
def test_what_waits_for_others_is_given_up(when):
    process = subprocess.Popen([sys.executable, "-c", WAITING, when], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(0.2)
    process.terminate()
    assert process.communicate(timeout=5)[0] == "stopped 15\n"
