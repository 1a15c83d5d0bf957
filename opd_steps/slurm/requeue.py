"""A training that was told to stop ahead of its job's end asks Slurm to queue the job again, so that it costs none of the run's retries."""

from __future__ import annotations

import os
import subprocess

ALLOWED = (
    "DISTILLERY_REQUEUE"  # set by the run that submits jobs, never by a shell: a user's own allocation must not be requeued
)


def requeue_this_job() -> bool:
    """Requeue the Slurm job that this process runs in, and say whether that was done.

    Only while Slurm says that it runs: that is so ahead of the walltime (`--signal=TERM@120`) and in the grace time of a preemption.
    A job that is being cancelled or requeued already, or is past its walltime, is COMPLETING, and stays as it is.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job or ALLOWED not in os.environ:
        return False
    ask = lambda *command: subprocess.run(command, capture_output=True, text=True, timeout=20)
    try:
        if ask("squeue", "-h", "-j", job, "-o", "%T").stdout.strip() != "RUNNING":
            return False
        print(f"Slurm job {job} is to end soon: asking for its requeue", flush=True)
        answer = ask("scontrol", "requeue", job)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"no requeue: {error}; the run's retries submit a new job", flush=True)
        return False
    if answer.returncode:
        print(f"no requeue: {answer.stderr.strip()}; the run's retries submit a new job", flush=True)
    return answer.returncode == 0
