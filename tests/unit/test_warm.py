"""Steps forked from a process that has done the imports: same streams, folder, environment, signals and end as a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOY = """
import os, sys, time, torch
what = sys.argv[1]
if what == "show":
    print(os.getcwd(), os.environ["COLOUR"], torch.get_num_threads(), sys.argv[2:])
    print("to stderr", file=sys.stderr)
elif what == "exit":
    sys.exit(int(sys.argv[2]))
elif what == "raise":
    raise ValueError("no good")
elif what == "end":
    sys.exit("one line")
elif what == "wait":
    print(os.getpid(), flush=True)
    time.sleep(60)
"""
SERVER = """
import sys
import torch, opd_steps.steps
from opd_steps.process import warm
opd_steps.steps.__path__.append(sys.argv[1])
warm.serve(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm")
    (folder / "toy.py").write_text(TOY)
    address = str(folder / "socket")
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), address, str(os.getpid())])
    until(lambda: Path(address).exists())
    yield address
    process.kill()
    process.wait()


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def ask(server: str, *arguments: str, **options) -> subprocess.Popen:
    environment = os.environ | {"DISTILLERY_WARM": server, "COLOUR": "blue", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "opd_steps.process.warm", "toy", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_streams_folder_environment_and_arguments_are_the_callers(server, tmp_path):
    out, err = ask(server, "show", "--a", "b c", cwd=tmp_path).communicate()
    assert out.split(" ", 3) == [str(tmp_path), "blue", "1", "['--a', 'b c']\n"]
    assert err == "to stderr\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [(["exit", "3"], 3, ""), (["raise"], 1, "ValueError: no good\n"), (["end"], 1, "one line\n")],
)
def test_the_end_is_the_steps(server, arguments, status, says):
    process = ask(server, *arguments)
    assert process.communicate()[1].endswith(says)
    assert process.returncode == status


def test_jobs_run_beside_each_other(server):
    first = ask(server, "wait")
    pid = int(first.stdout.readline())
    assert ask(server, "exit", "0").wait() == 0
    assert not gone(pid)
    first.kill()
    until(lambda: gone(pid))  # the job goes with the process that stands for it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(server, number):
    process = ask(server, "wait")
    pid = int(process.stdout.readline())
    process.send_signal(number)
    _, err = process.communicate()
    assert gone(pid)
    if number == signal.SIGINT:
        assert process.returncode == 1 and err.endswith("KeyboardInterrupt\n")
    else:
        assert process.returncode == -number


def test_an_early_signal_is_not_lost(server):
    """It reaches the caller at any moment of its start: no job of it is left, whatever the moment."""
    for delay in (0.05, 0.08, 0.1, 0.12, 0.15):
        process = ask(server, "wait")
        time.sleep(delay)
        process.terminate()
        out, _ = process.communicate()
        assert process.returncode == -signal.SIGTERM
        if out:
            until(lambda pid=int(out): gone(pid))


def test_a_killed_job_is_a_killed_caller(server):
    process = ask(server, "wait")
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_server_takes_its_jobs_along(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    address = str(tmp_path / "socket")
    own = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path), address, str(os.getpid())])
    until(lambda: Path(address).exists())
    process = ask(address, "wait")
    pid = int(process.stdout.readline())
    own.kill()
    assert process.communicate()[1] == "the process that ran this step is gone\n"
    assert process.returncode == 1
    until(lambda: gone(pid))


def test_a_server_ends_with_the_run_but_after_its_jobs(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    address = str(tmp_path / "socket")
    server = [sys.executable, "-c", SERVER, str(tmp_path), address]
    starter = (
        f"import os, subprocess, time; print(subprocess.Popen([*{server!r}, str(os.getpid())]).pid, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    pid = int(run.stdout.readline())
    until(lambda: Path(address).exists())
    job = ask(address, "wait")
    job.stdout.readline()
    run.kill()
    run.wait()
    time.sleep(1.5)  # longer than the server's look at its parent
    assert not gone(pid)
    job.kill()
    until(lambda: gone(pid))


def test_without_a_server_the_step_starts_by_itself(tmp_path):
    environment = os.environ | {"DISTILLERY_WARM": str(tmp_path / "nobody")}
    found = subprocess.run(
        [sys.executable, "-m", "opd_steps.process.warm", "plan", "--help"], env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0 and "--config" in found.stdout


def test_a_server_whose_source_was_edited_forks_no_more(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "other.py").write_text("VALUE = 1\n")
    address = str(tmp_path / "socket")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path), address, str(os.getpid()), "opd_steps.steps.other"]
    )
    until(lambda: Path(address).exists())
    assert ask(address, "exit", "7").wait() == 7
    (tmp_path / "other.py").write_text("VALUE = 22\n")
    own = ask(address, "exit", "7")
    said = own.communicate()[1]
    process.kill()
    process.wait()
    assert own.returncode == 1 and "No module named opd_steps.steps.toy" in said  # it went to make its own imports


TRAINING = """
import os, sys, time
from opd_steps.process.lifetime import StopFlag
stop = StopFlag()
print(os.getpid(), flush=True)
while not stop.wanted:
    time.sleep(0.02)
open(sys.argv[1], "w").write(f"saved {stop.wanted}")
"""


RUN = """
import os, subprocess, sys, time
server, step = sys.argv[1].split("|"), sys.argv[2].split("|")
if server != [""]:
    subprocess.Popen([*server, str(os.getpid())])
    while not os.path.exists(server[-1]):
        time.sleep(0.02)
subprocess.Popen(step)
time.sleep(60)
"""


@pytest.mark.parametrize("warm", [True, False])
def test_a_run_that_is_killed_stops_its_steps(tmp_path, warm):
    """They get SIGTERM, so that a training saves; then the run's server ends too."""
    address, saved = tmp_path / "socket", tmp_path / "saved"
    (tmp_path / "toy.py").write_text(TRAINING)
    (tmp_path / "sitecustomize.py").write_text(f"import opd_steps.steps\nopd_steps.steps.__path__.append({str(tmp_path)!r})\n")
    environment = os.environ | {"DISTILLERY_WARM": str(address), "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    server = "|".join([sys.executable, "-c", SERVER, str(tmp_path), str(address)]) if warm else ""
    step = "|".join([sys.executable, "-m", "opd_steps.process.warm", "toy", str(saved)])
    run = subprocess.Popen([sys.executable, "-c", RUN, server, step], env=environment, stdout=subprocess.PIPE, text=True)
    pid = int(run.stdout.readline())
    run.kill()
    run.wait()
    until(lambda: gone(pid), 20)
    assert saved.read_text() == "saved 15"
    until(lambda: not address.exists(), 20)
