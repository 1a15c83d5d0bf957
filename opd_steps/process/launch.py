"""A step as several processes on this machine, one a GPU: started together, stopped together, one line when one of them fails.

What `torchrun --nproc-per-node N -m opd_steps.steps.opd ...` does too, but with the step's own exit status, its error told once, and
no limit on the time that a checkpoint takes after SIGTERM. The ranks' environment is torchrun's.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager

from opd_steps.errors import UserError
from opd_steps.process.lifetime import end_with_parent

_PIPE = "DISTILLERY_RANK_ERRORS"  # a rank's end of the pipe on which it tells what went wrong
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
GRACE = 0.5  # seconds in which a rank that was killed is seen to be, once another complains
_STOPPED = (0, 128 + signal.SIGTERM, 128 + signal.SIGINT)  # ends that all ranks come to by themselves


def world_size() -> int:
    """How many processes this one was started as one of, here or by torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else 1


def launch(processes: int, module: str, arguments: list[str]) -> int:
    """Run `python -m module` as ranks 0 .. processes - 1; their exit status. Only the first one's stdout is shown."""
    reading, writing = os.pipe()
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1
    shared = os.environ | {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": str(max(1, threads // processes)),
        _PIPE: str(writing),
    }
    ranks: list[subprocess.Popen] = []
    pass_on = lambda number, _: [rank.send_signal(number) for rank in ranks]
    handlers = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=shared | own,
            pass_fds=[writing],
            stdout=None if rank == 0 else subprocess.DEVNULL,
            preexec_fn=lambda: end_with_parent(signal.SIGKILL),
        )
        ranks.append(process)
    os.close(writing)
    try:
        return _watch(ranks, reading)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
        os.close(reading)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _watch(ranks: list[subprocess.Popen], errors: int) -> int:
    """Until all ranks have ended, or one has failed."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(errors, selectors.EVENT_READ)
        for k, rank in enumerate(ranks):
            waiting.register(os.pidfd_open(rank.pid), selectors.EVENT_READ, (k, rank))
        left, status = len(ranks), 0
        while left:
            for key, _ in sorted(waiting.select(), key=lambda event: event[0].fileobj == errors):
                if key.fileobj == errors:
                    if line := _line(errors):
                        text, code = json.loads(line)
                        if (killed := _killed(ranks)) is not None:  # what another rank says of it is no cause
                            return _ended(killed, ranks)
                        print(text, file=sys.stderr, flush=True)
                        return code
                    waiting.unregister(errors)  # nobody is left who could write
                    continue
                k, rank = key.data
                waiting.unregister(key.fileobj)
                os.close(key.fileobj)
                left -= 1
                if rank.wait() not in _STOPPED:
                    return _ended(k, ranks)
                status = max(status, rank.returncode)
    return status


def _killed(ranks: list[subprocess.Popen]) -> int | None:
    """Which rank died by a signal, if one did: the others may complain of it before the kernel says so."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        for k, rank in enumerate(ranks):
            if (code := rank.poll()) is not None and code < 0 and code not in _STOPPED:
                return k
        time.sleep(0.02)
    return None


def _ended(k: int, ranks: list[subprocess.Popen]) -> int:
    """Say how a rank ended; its exit status."""
    code = ranks[k].returncode
    print(f"distillery: error: process {k} of {len(ranks)} ended with status {code}", file=sys.stderr)
    return code if code > 0 else 128 - code


def _line(pipe: int) -> bytes:
    """The first line on the pipe, which its writer may not have finished yet; b"" at its end."""
    found = b""
    while not found.endswith(b"\n") and (more := os.read(pipe, 1)):
        found += more
    return found


@contextmanager
def failing_together():
    """In a rank of `launch`: the first error is told to the launcher, which ends all ranks; no other one gets to complain of it."""
    if _PIPE not in os.environ:
        yield
        return
    try:
        yield
    except UserError as error:
        _tell(f"distillery: error: {error}", 2)
    except Exception:
        _tell(traceback.format_exc(), 1)


def _tell(text: str, code: int) -> None:
    sys.stdout.flush()
    os.write(int(os.environ[_PIPE]), json.dumps([text, code]).encode() + b"\n")
    while True:  # an end of its own would break the others' connections, and they would say so
        signal.pause()


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody uses now; host "": of all networks of this machine."""
    with socket.socket() as free:
        free.bind((host, 0))
        return free.getsockname()[1]
