"""The job's side of the sandbox: trials, so many at once, each with limits that the kernel keeps."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from opd_steps.errors import UserError
from opd_steps.tasks.at_once import at_once
from opd_steps.tasks.sandbox import keeper, tests
from opd_steps.tasks.sandbox.plain import framed

_ROOT = keeper.__file__.rsplit("opd_steps", 1)[0]
_PATIENCE = 20  # seconds of the clock for each of CPU time: a busy machine judges like an idle one


@dataclass(frozen=True)
class Trial:
    """A program in Python, and what judges its `function`: see tests.verdict."""

    program: str
    function: str
    reference: str
    tests: str


@dataclass(frozen=True)
class Limits:
    """Of each of a trial's two processes: seconds of CPU time, bytes of memory."""

    seconds: float
    memory: int


def verdicts(trials: Sequence[Trial], limits: Limits) -> list[bool]:
    """Which programs pass their tests. Raises UserError on a machine where programs cannot be kept in."""
    if not trials:
        return []
    kept = _keeper(os.getpid())
    kept.start()  # once, and not by every trial where it fails
    return at_once(lambda trial: kept.passes(trial, limits), trials)


@cache
def _keeper(pid: int) -> _Keeper:
    """The keeper of a process: a fork starts its own."""
    return _Keeper()


class _Keeper:
    def __init__(self):
        self.lock, self.control, self.process = threading.Lock(), None, None

    def start(self) -> None:
        with self.lock:
            self._start()

    def _start(self) -> None:
        if self.control is None:
            self.control, self.process = _start()

    def passes(self, trial: Trial, limits: Limits) -> bool:
        patience = _PATIENCE * limits.seconds
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._fork(theirs, {"seconds": limits.seconds, "patience": patience, "memory": limits.memory})
            ours.settimeout(2 * patience)  # the kernel ends both before; a fork of the job may hold the other end
            with suppress(OSError):  # the tests' process is gone before it has read or said anything
                ours.sendall(framed([trial.program, trial.function, trial.reference, trial.tests]))
                return _said(ours) == tests.RIGHT
        return False

    def _fork(self, theirs: socket.socket, limits: dict) -> None:
        with self.lock:
            for last in (False, True):  # a keeper that somebody ended is started once more
                self._start()
                try:
                    socket.send_fds(self.control, [json.dumps(limits).encode()], [theirs.fileno()])
                    return
                except OSError:
                    self.control.close()
                    self.process.wait()
                    self.control = None
                    if last:
                        raise


def _start() -> tuple[socket.socket, subprocess.Popen]:
    """The keeper, and the socket on which it is told of trials."""
    if sys.platform != "linux":
        raise _no_walls("this is no Linux")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    call = f"import sys; sys.path.append({_ROOT!r}); from {keeper.__name__} import main; main({theirs.fileno()})"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-P", "-c", call],
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    if (said := ours.recv(4096)) != b"ready":
        ours.close()
        process.wait()
        raise _no_walls(said.decode() or "the process that keeps programs in did not start")
    return ours, process


def _no_walls(found: str) -> UserError:
    needs = "code is run only where it is kept from files and network: on Linux with seccomp and libseccomp.so.2"
    return UserError("verifier code", f"{needs} (package libseccomp2 or libseccomp); {found}")


def _said(link: socket.socket) -> bytes:
    """The verdict; less of it where its process was ended."""
    found = b""
    while len(found) < len(tests.RIGHT) and (part := link.recv(len(tests.RIGHT))):
        found += part
    return found
