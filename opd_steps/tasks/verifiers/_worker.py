"""Verifiers in processes of their own, each ended by the kernel once it has used its time: math-verify, and others (in_time).

sympy computes towers of powers in C, where no alarm and no thread can stop it, and math-verify's own timeouts are signals of the
main thread. Here nothing of the caller changes: no handler, no alarm; any thread, forked or not. The time is CPU time of the
worker, so that a busy machine judges like an idle one; only a pair that needs about the limit may be judged otherwise on a
slower machine. A worker whose caller is gone ends at once, or within the limit when it is in C.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, lru_cache

from opd_steps.tasks.at_once import width

MEMORY = 4 << 30  # bytes of address space


@lru_cache(maxsize=4096)
def equal(gold: str, answer: str, seconds: float) -> bool:
    """Does math-verify find what these two texts state equal, within so many seconds of CPU time?"""
    return _pool(os.getpid()).ask(json.dumps([gold, answer, seconds])) == "1\n"


@cache
def _pool(pid: int) -> Pool:
    """The workers of a process: a fork starts its own."""
    return Pool(f"from {__name__} import main; main()", width())


class Pool:
    """Processes that run `call` and answer a line with a line, so many at most. `wall`: seconds of the clock for a line; None: any number."""

    def __init__(self, call: str, most: int, wall: float | None = None):
        self.free: queue.LifoQueue[_Worker] = queue.LifoQueue()  # the last used first
        for _ in range(most):
            self.free.put(_Worker(call, wall))

    def ask(self, request: str) -> str:
        """The line; "" where a limit ended the process."""
        worker = self.free.get()
        try:
            return worker.ask(request)
        finally:
            self.free.put(worker)


class _Worker:
    """Asked by one thread at a time. Its process starts when it is first needed."""

    def __init__(self, call: str, wall: float | None):
        self.call, self.wall, self.process = call, wall, None

    def ask(self, request: str) -> str:
        for _ in range(2):  # one that somebody else ended is started once more
            process = self.process = self.process or _start(self.call)
            late = threading.Event()
            watch = threading.Timer(self.wall or 0, lambda process=process, late=late: (late.set(), process.kill()))
            if self.wall:
                watch.start()
            with suppress(BrokenPipeError):
                process.stdin.write(request + "\n")
                process.stdin.flush()
                if line := process.stdout.readline():
                    watch.cancel()
                    return line
            watch.cancel()
            self.process = None
            if _end(process) == -signal.SIGPROF or late.is_set():
                break
        return ""


def _start(call: str) -> subprocess.Popen:
    command = [sys.executable, "-c", call]
    places = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=places)
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"the process of a verifier did not start: status {_end(process)} ({call})")
    return process


def _end(process: subprocess.Popen) -> int:
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    return process.wait()


def served() -> Iterator[tuple[str, Callable[[str], None]]]:
    """In a worker: (a line, what answers it), for as long as its caller is there."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # meant for the job, which ends this process by leaving
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    print("ready", file=answers, flush=True)
    while True:
        yield requests.get(), lambda line: print(line, file=answers, flush=True)


def main() -> None:
    """The worker of math-verify: a line `[gold, answer, seconds]` in, `1` or `0` out."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # it warns of every missing timeout
    for request, tell in served():
        gold, answer, seconds = json.loads(request)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, unhandled, ends this process
        try:
            gold, answer = (parse(text, parsing_timeout=None) for text in (gold, answer))
            found = verify(gold, answer, float_rounding=15, timeout_seconds=None)
        except Exception:  # MemoryError and RecursionError among them
            found = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        tell(str(int(found)))


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)
