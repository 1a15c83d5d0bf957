"""Slurm's commands."""

from __future__ import annotations

import subprocess

from opd_steps.errors import UserError


def ask(*command: str) -> str:
    """stdout of a Slurm command; raises UserError with the first line of what it complained of."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise UserError(command[0], "no such command here; --profile slurm needs a machine that submits to Slurm") from None
    except subprocess.TimeoutExpired:
        raise UserError(command[0], "Slurm did not answer within two minutes") from None
    if run.returncode:
        raise UserError(command[0], (run.stderr.strip().splitlines() or [f"ended with status {run.returncode}"])[0])
    return run.stdout
