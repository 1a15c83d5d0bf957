"""math-verify in processes of their own, each ended by the kernel once it has used its time.

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
from contextlib import suppress
from functools import cache, lru_cache

from opd_steps.tasks.at_once import width

MEMORY = 4 << 30  # bytes of address space


@lru_cache(maxsize=4096)
def equal(gold: str, answer: str, seconds: float) -> bool:
    """Does math-verify find what these two texts state equal, within so many seconds of CPU time?"""
    free = _workers(os.getpid())
    worker = free.get()
    try:
        return worker.ask(json.dumps([gold, answer, seconds]))
    finally:
        free.put(worker)


@cache
def _workers(pid: int) -> queue.LifoQueue[_Worker]:
    """The free workers of a process, the last used first: a fork starts its own."""
    free: queue.LifoQueue[_Worker] = queue.LifoQueue()
    for _ in range(width()):
        free.put(_Worker())
    return free


class _Worker:
    """Asked by one thread at a time. Its process starts when it is first needed."""

    def __init__(self):
        self.process = None

    def ask(self, request: str) -> bool:
        for _ in range(2):  # one that somebody else ended is started once more
            process = self.process = self.process or _start()
            with suppress(BrokenPipeError):
                process.stdin.write(request + "\n")
                process.stdin.flush()
                if line := process.stdout.readline():
                    return line == "1\n"
            self.process = None
            if _end(process) == -signal.SIGPROF:
                break
        return False


def _start() -> subprocess.Popen:
    command = [sys.executable, "-c", f"from {__name__} import main; main()"]
    places = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=places)
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"the process that runs math-verify did not start: status {_end(process)}")
    return process


def _end(process: subprocess.Popen) -> int:
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    return process.wait()


def main() -> None:
    """The worker: a line `[gold, answer, seconds]` in, `1` or `0` out."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # meant for the job, which ends this process by leaving
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)  # it warns of every missing timeout
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    print("ready", file=answers, flush=True)
    while True:
        gold, answer, seconds = json.loads(requests.get())
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, unhandled, ends this process
        try:
            gold, answer = (parse(text, parsing_timeout=None) for text in (gold, answer))
            found = verify(gold, answer, float_rounding=15, timeout_seconds=None)
        except Exception:  # MemoryError and RecursionError among them
            found = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(int(found), file=answers, flush=True)


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)
