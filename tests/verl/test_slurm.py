"""One training on two machines of a Slurm: told to stop, queued again, and a machine lost on the way. One real Slurm, verl on its CPUs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.loopslurm import LoopSlurm
from tests.slurm.run import Run, SlurmCheckout
from tests.verl import ENVIRONMENT
from tests.verl.conftest import ROOT
from tests.verl.test_node import curves

PAPER = ("students", "--config", "papers=[wide]")


@pytest.fixture
def checkout(tmp_path) -> Iterator[SlurmCheckout]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "TOKENIZERS_PARALLELISM": "false"}.items():
            patch.setenv(name, value)
        with LoopSlurm(nodes=3, memory=16_000) as cluster:
            found = SlurmCheckout(tmp_path / "checkout", cluster)
            shutil.copy(ROOT / "tests/verl/wide.yaml", found.folder / "workflow/papers")
            (found.folder / "tests").symlink_to(ROOT / "tests")  # where verl's CPUs are (tests.verl.cpu)
            yield found
            until = time.monotonic() + 60  # Ray's own processes see one by one that nobody is left
            while (left := ray_of(cluster)) and time.monotonic() < until:
                time.sleep(0.5)
            assert left == []


def test_two_machines_of_one_job(checkout):
    cluster, run = checkout.cluster, checkout.run(*PAPER)
    job = saved(run, 1)
    first, second = machines(cluster, job)
    # waited for: a process that a raylet has just forked bears its name and, for a moment, nothing else
    on = lambda: {where(pid, "SLURMD_NODENAME") for pid in ray_of(cluster, "raylet/raylet")}
    run.until("a raylet on each machine", lambda: on() == {first, second}, 60)

    cluster.run("scancel", "--signal=TERM", job)  # to all processes of both, as ahead of a walltime
    run.until("it is queued again", lambda: "is to end soon: requeued" in checkout.log_of("opd", "wide", "wide"))
    assert "; its checkpoint is saved" in checkout.log_of("opd", "wide", "wide")
    before = made(checkout)
    assert saved(run, len(before) + 1) == job  # under its own id

    second = machines(cluster, job)[1]
    cluster.stop(second, signal.SIGKILL)
    for pid in cluster.processes(job):
        if where(pid, "SLURMD_NODENAME") == second:
            os.kill(pid, signal.SIGKILL)
    run.end()
    rows = curves(checkout.folder / "results/wide/opd/wide/seed0")
    assert [row["step"] for row in rows] == list(range(1, 13)) and rows[: len(before)] == before
    assert checkout.log_of("opd", "wide", "wide").count("stopped by signal 15") == 1
    manifest = json.loads((checkout.folder / "results/wide/opd/wide/seed0/manifest.json").read_text())
    assert manifest["facts"]["trainer"]["name"] == "verl" and manifest["metrics"]["teacher/sequences"] == 8 * 12


def saved(run: Run, step: int) -> str:
    """Wait until the training has saved so many steps; its job."""
    there = lambda: [
        p for p in run.checkout.folder.glob("results/.work/*/verl/global_step_*") if int(p.name.split("_")[-1]) >= step
    ]
    run.until(f"step {step} is saved", there)
    return run.checkout.slurm_jobs("wide")[-1]["id"]


def made(checkout: SlurmCheckout) -> list[dict]:
    return curves(next(checkout.folder.glob("results/.work/*/metrics.jsonl")).parent)


def machines(cluster: LoopSlurm, job: str) -> list[str]:
    """Of a running job; that of its step first."""
    nodes = cluster.run("scontrol", "show", "hostnames", cluster.run("squeue", "-h", "-j", job, "-o", "%N")).split()
    assert len(nodes) == 2
    return nodes


def ray_of(cluster: LoopSlurm, part: str = "") -> list[int]:
    """Ray's processes of this cluster's jobs."""
    said = lambda pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
    found = []
    for pid in cluster.leftovers():
        try:
            if said(pid).startswith("ray::") or ("/ray/" in said(pid) and part in said(pid)):
                found.append(pid)
        except OSError:
            continue
    return found


def where(pid: int, name: str) -> str:
    """The value of a variable of a process's environment."""
    try:
        said = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:
        return ""
    return next((value.partition("=")[2] for value in said if value.startswith(f"{name}=")), "")
