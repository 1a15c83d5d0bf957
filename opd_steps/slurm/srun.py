"""The `srun` within a job, which asks again while Slurm's controller is away; by itself srun gives up after some seconds, and a job is lost.

It also puts SLURM_CONF back, which Snakemake's jobstep plugin takes out of the environment. It stands alone, for its start costs every job.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

CONF = "DISTILLERY_SLURM_CONF"  # the run's SLURM_CONF
AWAY = re.compile(  # Slurm's words for it, whichever of its commands speaks
    r"contact slurm controller|Communication \w+ failure|Zero Bytes were transmitted|timed out on send/recv|in standby mode",
    re.I,
)
_NOT_STARTED = re.compile(r"srun: error: Unable to (create step|confirm allocation) for job", re.I)
POLL = 5.0  # seconds; srun itself has waited for ten already


def main(arguments: list[str]) -> int:
    """Run srun; its exit status."""
    ended = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):  # Slurm tells srun and the step too, and they decide
        signal.signal(number, lambda number, _: ended.append(number))
    if CONF in os.environ:
        os.environ.setdefault("SLURM_CONF", os.environ[CONF])
    while True:
        status, away = _run([real(), *arguments])
        if not away:
            return status if status >= 0 else 128 - status
        print("distillery: Slurm's controller does not answer; asking again until it does", file=sys.stderr, flush=True)
        until = time.monotonic() + POLL
        while time.monotonic() < until:
            if ended:
                return 128 + ended[0]
            time.sleep(0.2)


def _run(command: list[str]) -> tuple[int, bool]:
    """(its exit status, whether it started nothing because the controller was away)."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    said: list[bytes] = []

    def relay() -> None:
        for line in process.stderr:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
            if line.startswith(b"srun: error: "):
                said.append(line)

    reader = threading.Thread(target=relay)
    reader.start()
    status = process.wait()
    reader.join(5)  # a process that the step left behind may hold the pipe
    lines = [line.decode(errors="replace") for line in said]
    return status, status != 0 and any(_NOT_STARTED.match(line) and AWAY.search(line) for line in lines)


def real() -> str:
    """The srun behind this one in PATH."""
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if os.path.abspath(p) != own)
    return shutil.which("srun", path=path) or "srun"


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
