"""At the start of a run on Slurm: can the cluster do what the jobs ask, do jobs of an earlier run still work here, who watches the queue."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from getpass import getuser
from pathlib import Path

from opd_steps.slurm.commands import ask
from opd_steps.slurm.executor import Executor
from opd_steps.slurm.requests import check, partitions, request
from opd_steps.slurm.requeue import ALLOWED
from opd_steps.slurm.srun import CONF

GONE_WITHIN = 180  # seconds: KillWait (30 s) and the epilog, with room


def start(workflow) -> None:
    """Called by workflow/Snakefile with the DAG built and nothing submitted. Raises UserError."""
    jobs = [job for job in workflow.dag.needrun_jobs() if not workflow.is_local(job.rule)]
    check([request(job) for job in jobs], partitions())
    end_earlier_jobs(Path.cwd())  # this run holds the lock of its results: nobody else's are left
    if workflow.executor_settings.requeue:
        os.environ[ALLOWED] = "1"
    os.environ |= for_jobs(os.environ)
    Executor.watch(workflow.scheduler._executor)


def for_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """What `sbatch --export=ALL` hands to the jobs beside the environment: their srun is that of opd_steps/slurm/srun.py."""
    added = {
        "PATH": os.pathsep.join([str(Path(__file__).parent / "bin"), environment["PATH"]]),
        "DISTILLERY_PYTHON": sys.executable,
    }
    return added | ({CONF: environment["SLURM_CONF"]} if "SLURM_CONF" in environment else {})


def end_earlier_jobs(folder: Path) -> None:
    """Cancel what a run that was killed left in the queue: trainings save and go on in this run, and nothing runs twice."""
    left = _jobs_of(folder)
    if not left:
        return
    print(f"distillery: cancelling Slurm jobs of an earlier run in this folder: {' '.join(left)}", file=sys.stderr, flush=True)
    ask("scancel", *left)
    deadline = time.monotonic() + GONE_WITHIN
    while _jobs_of(folder) and time.monotonic() < deadline:
        time.sleep(1)


def _jobs_of(folder: Path) -> list[str]:
    """Ids of this user's jobs that a Snakemake submitted from `folder`; it writes rule and wildcards into their comment."""
    rows = [row.split("|") for row in ask("squeue", "-h", "-u", getuser(), "-o", "%i|%Z|%k").splitlines()]
    return [row[0] for row in rows if row[1] == str(folder) and row[2].startswith(("rule_", "group_"))]
