"""Exclusive locks between processes: refused, waited for, dropped by death, and never held on a file that is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from opd_steps.errors import UserError
from opd_steps.store import lock

HOLD = """
import sys, time
from pathlib import Path
from opd_steps.store.lock import acquire
handle = acquire(Path(sys.argv[1]), "")
print(1, flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """(the lock's path, the process that holds it)."""
    path = tmp_path / "work/lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield path, process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_with_the_owners_name(held):
    path, process = held
    with pytest.raises(UserError, match=f"taken: host .*, pid {process.pid}$"):
        lock.acquire(path, "taken")


def test_a_killed_owner_lets_go(held, capsys):
    path, process = held
    threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
    with lock.acquire(path, "taken", wait=30):
        assert path.read_text().strip().endswith(f"pid {os.getpid()}")
    assert "taken: host" in capsys.readouterr().out


def test_waiting_is_bounded(held):
    begun = time.monotonic()
    with pytest.raises(UserError, match="taken"):
        lock.acquire(held[0], "taken", wait=1.5)
    assert time.monotonic() - begun >= 1.5


def test_an_owner_that_deletes_its_folder_leaves_no_ghost(tmp_path):
    """The waiter must end with a lock on the file that others see, not on the deleted one."""
    path = tmp_path / "work/lock"
    first = lock.acquire(path, "taken")

    def end():
        shutil.rmtree(path.parent)
        first.close()

    threading.Timer(0.3, end).start()
    with lock.acquire(path, "taken", wait=30), pytest.raises(UserError, match="taken"):
        lock.acquire(path, "taken")


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="this file system has no file locks"):
        lock.acquire(tmp_path / "lock", "taken")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write here: "):
        lock.acquire(tmp_path / "file/under/lock", "taken")


def test_the_slurm_job_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with lock.acquire(tmp_path / "lock", "taken"), pytest.raises(UserError, match="Slurm job 17"):
        lock.acquire(tmp_path / "lock", "taken")
