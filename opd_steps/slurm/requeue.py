"""A training that was told to stop ahead of its job's end asks Slurm to queue the job again, so that it costs none of the run's retries."""

from __future__ import annotations

import os
import subprocess
import time

from opd_steps.slurm.srun import AWAY

ALLOWED = (
    "DISTILLERY_REQUEUE"  # set by the run that submits jobs, never by a shell: a user's own allocation must not be requeued
)
PATIENCE = 90.0  # seconds in which a controller that is away is asked again; the job's end is two minutes off


def requeue_this_job() -> str:
    """Requeue the Slurm job that this process runs in; returns what to say of it, "" if there was nothing to do.

    Only while Slurm says that it runs: that is so ahead of the walltime (`--signal=TERM@120`) and in the grace time of a preemption.
    A job that is being cancelled or requeued already, or is past its walltime, is COMPLETING, and stays as it is.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job or ALLOWED not in os.environ:
        return ""
    try:
        if _ask("squeue", "-h", "-j", job, "-o", "%T").stdout.strip() != "RUNNING":
            return ""
        answer = _ask("scontrol", "requeue", job)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Slurm job {job} could not be requeued ({error}); the run's retries submit a new one"
    if answer.returncode:
        return f"Slurm job {job} could not be requeued ({answer.stderr.strip()}); the run's retries submit a new one"
    return f"Slurm job {job} is to end soon: requeued"


def _ask(*command: str) -> subprocess.CompletedProcess:
    end = time.monotonic() + PATIENCE
    while True:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if not answer.returncode or not AWAY.search(answer.stderr) or time.monotonic() > end:
            return answer
        time.sleep(1)
