"""A checkout whose runs go through the loopback cluster, as a user would start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.pipeline.checkout import Checkout
from tests.slurm.loopslurm import LoopSlurm

QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5")  # of the profile, only the waits


class SlurmCheckout(Checkout):
    def __init__(self, folder: Path, cluster: LoopSlurm):
        super().__init__(folder)
        self.cluster = cluster

    def run(self, *args: str) -> Run:
        """`snakemake --profile slurm <args>`, in the background."""
        env = {k: v for k, v in self.cluster.env.items() if k != "SNAKEMAKE_PROFILE"}
        env |= {
            "PATH": f"{Path(sys.executable).parent}:{env['PATH']}",
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        log = self.folder / f"run-{time.monotonic_ns()}.log"
        with log.open("w") as out:
            command = [sys.executable, "-m", "snakemake", "--profile", "slurm", *QUICK, *args]
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return Run(self, process, log)

    def tree(self, place: str) -> dict[str, bytes]:
        """All files below results/<place>, without the times that were measured."""
        folder = self.folder / "results" / place
        files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith(".timing.json"))
        return {str(p.relative_to(folder)): p.read_bytes() for p in files}

    def saved(self, node: str) -> int:
        """Step of the newest checkpoint of a training under way, else 0."""
        found = (self.folder / "results/.work").glob(f"*.{node}.seed0-*/checkpoint-[0-9]*")
        return max((int(p.name.split("-")[1]) for p in found), default=0)

    def log_of(self, kind: str, paper: str, node: str) -> str:
        path = self.folder / f"logs/{paper}/{kind}/{node}/seed0.log"
        return path.read_text() if path.exists() else ""

    def slurm_jobs(self, node: str) -> list[dict[str, str]]:
        """The cluster's jobs of a node, submitted from this folder, oldest first."""
        return [j for j in self.cluster.jobs() if j["comment"].endswith(f"_{node}_0") and j["folder"] == str(self.folder)]


class Run:
    """A snakemake that runs; `text` is all that it has said."""

    def __init__(self, checkout: SlurmCheckout, process: subprocess.Popen, log: Path):
        self.checkout, self.process, self.log = checkout, process, log

    @property
    def text(self) -> str:
        return self.log.read_text()

    def until(self, what: str, true: Callable[[], object], seconds: float = 600) -> object:
        """Wait for what is to happen while the run goes on, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert self.process.poll() is None, f"ended before: {what}\n{self.text[-4000:]}"
            assert time.monotonic() < deadline, f"not in {seconds} s: {what}\n{self.text[-4000:]}"
            time.sleep(0.2)
        return found

    def end(self, status: int | None = 0, seconds: float = 1200) -> str:
        """Wait for the end; returns the text."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end in {seconds} s\n{self.text[-4000:]}") from None
        assert status is None or self.process.returncode == status, self.text[-6000:]
        return self.text

    def kill(self) -> None:
        """SIGKILL to the main process and its local jobs."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
