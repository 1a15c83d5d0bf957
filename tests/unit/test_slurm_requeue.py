"""A training's own requeue: only in a job that a run submitted, and only while Slurm lets it run."""

from __future__ import annotations

import pytest

from opd_steps.slurm.requeue import ALLOWED, requeue_this_job


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands that answer as told; returns a function that sets squeue's state and scontrol's status, and says what scontrol was asked."""
    asked = tmp_path / "asked"

    def answers(state: str, status: int = 0, env: bool = True) -> tuple[str, str]:
        for name, script in {
            "squeue": f"echo {state}",
            "scontrol": f'echo "$@" >>{asked}; echo refused >&2; exit {status}',
        }.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        monkeypatch.delenv(ALLOWED, raising=False)
        if env:
            monkeypatch.setenv(ALLOWED, "1")
        said = requeue_this_job()
        return said, asked.read_text().strip() if asked.exists() else ""

    return answers


def test_ahead_of_the_end(slurm):
    assert slurm("RUNNING") == ("Slurm job 17 is to end soon: requeued", "requeue 17")


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "CANCELLED", "TIMEOUT", ""])
def test_not_what_somebody_ends(slurm, state):
    assert slurm(state) == ("", "")


def test_not_a_users_own_allocation(slurm):
    assert slurm("RUNNING", env=False) == ("", "")


def test_a_refusal_is_told(slurm):
    assert slurm("RUNNING", 1) == (
        "Slurm job 17 could not be requeued (refused); the run's retries submit a new one",
        "requeue 17",
    )


def test_a_controller_that_is_away_is_asked_again(slurm, tmp_path):
    away = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    found = slurm(f"x >/dev/null; test -e {tmp_path}/once || {{ touch {tmp_path}/once; {away}; }}; echo RUNNING")
    assert found == ("Slurm job 17 is to end soon: requeued", "requeue 17")


def test_outside_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv(ALLOWED, "1")
    assert requeue_this_job() == ""


def test_without_slurms_commands(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv(ALLOWED, "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "could not be requeued" in requeue_this_job()
