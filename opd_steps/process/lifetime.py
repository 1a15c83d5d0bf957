"""How processes end: with the one that started them, with all that they started, and soon when they are told to (Linux)."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
AWAY_WITHIN = 10.0  # seconds until the kernel has taken down what was killed; a GPU's memory is freed only then

closing = contextlib.ExitStack()  # what a step ends before it ends itself
atexit.register(closing.close)


def end_with_parent(number: int, parent: int | None = None) -> None:
    """In a new child: have the kernel send it this signal when its parent is gone, at once if `parent` is gone already."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, number)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


class Family:
    """A command as the leader of a session, with all that it starts; it gets SIGTERM when this process is gone.

    `end` leaves nobody of it, also when the leader was killed and its children were not: until then it is not reaped, so its id
    cannot be anybody else's. One that is `deaf` hears no SIGTERM and no SIGINT, nor does what it starts: a cluster sends them to all
    processes of a job, and this one decides what they mean. It ends by SIGKILL.
    """

    def __init__(self, command: list[str], deaf: bool = False, **options):
        parent = os.getpid()
        self.deaf = deaf

        def begin() -> None:
            if deaf:
                signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
            end_with_parent(signal.SIGKILL if deaf else signal.SIGTERM, parent)

        self._leader = subprocess.Popen(command, start_new_session=True, preexec_fn=begin, **options)
        self.pid, self.status = self._leader.pid, None  # exit status, once it was ended

    def alive(self) -> bool:
        """Does the leader run?"""
        return self.status is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self, grace: float) -> int:
        """SIGTERM to the leader, if it can hear; after its end or `grace` seconds SIGKILL to whoever is left. The leader's exit status."""
        if self.status is None:
            if not self.deaf:
                os.kill(self.pid, signal.SIGTERM)
                _until(lambda: not self.alive(), grace)
            os.killpg(self.pid, signal.SIGKILL)
            self.status = self._leader.wait()
            _until(self._empty, AWAY_WITHIN)
        return self.status

    def _empty(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False


def _until(true, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)


class Stopped(Exception):
    """A stop was asked for while something outside kept this process waiting: what was waited for is given up."""


class StopFlag:
    """From now on SIGTERM (a cluster's notice) and SIGINT end nothing: `wanted` is the signal's number, 0 before one came.

    `gives_up`: whether what is waited for `until_stopped` is given up; where it could not be made anew, it is not.
    """

    def __init__(self):
        global _flag
        self.wanted, self.waiting, self.gives_up, _flag = 0, False, True, self
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, number: int, frame: object) -> None:
        self.wanted = number
        if self.waiting:
            raise Stopped


_flag: StopFlag | None = None


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """Around what may wait for others: raises Stopped as soon as a StopFlag's signal comes, or if it has come already."""
    if _flag is None or not _flag.gives_up:
        yield
        return
    _flag.waiting = True
    try:
        if _flag.wanted:
            raise Stopped
        yield
    finally:
        _flag.waiting = False
