"""The srun of a run's jobs: it asks again while nobody answers, and is a plain srun otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opd_steps.slurm.start import for_jobs

AWAY = "srun: error: Unable to confirm allocation for job 1: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def srun(tmp_path):
    """run(script) -> a process: what the jobstep plugin starts, where the real srun is `script`."""

    def run(script: str, **environment: str) -> subprocess.Popen:
        (tmp_path / "srun").write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        (tmp_path / "srun").chmod(0o755)
        found = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | environment
        found |= for_jobs(found)
        found.pop("SLURM_CONF", None)  # so does the plugin
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["sh", "-c", "srun -n1 'a b' c"], env=found, **pipes)

    return run


def test_arguments_streams_and_status_are_its_own(srun):
    process = srun('for x in "$@"; do echo "$x"; done; echo "srun: error: n1: task 0: Exited" >&2; exit 7')
    assert process.communicate() == ("-n1\na b\nc\n", "srun: error: n1: task 0: Exited\n")
    assert process.returncode == 7


def test_it_asks_again_while_the_controller_is_away(srun):
    process = srun(f"test -e once && exit 0; touch once; echo '{AWAY}' >&2; exit 1")
    _, err = process.communicate(timeout=30)
    assert (
        process.returncode == 0
        and err == f"{AWAY}\ndistillery: Slurm's controller does not answer; asking again until it does\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "srun: error: Unable to create step for job 1: Requested node configuration is not available",
        "squeue: error: Unable to contact slurm controller (connect failure)",  # the step's own words
        "Slurm job 1 could not be requeued (Unable to contact slurm controller)",
    ],
)
def test_other_failures_are_failures(srun, line):
    process = srun(f"echo '{line}' >&2; exit 1")
    assert process.communicate(timeout=30)[1] == line + "\n" and process.returncode == 1


def test_its_configuration_is_put_back(srun):
    assert srun("echo $SLURM_CONF", SLURM_CONF="/site/slurm.conf").communicate()[0] == "/site/slurm.conf\n"
    assert srun("echo $SLURM_CONF").communicate()[0] == "\n"


def test_a_signal_is_left_to_srun_and_ends_the_wait(srun):
    process = srun("trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    process.stdout.readline()
    (wrapper,) = children(process.pid) or [process.pid]
    os.kill(wrapper, signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    (inner,) = [p for p in children(wrapper) if b"srun" in Path(f"/proc/{p}/cmdline").read_bytes()]
    os.kill(inner, signal.SIGTERM)
    assert process.wait(10) == 3
    process = srun(f"echo '{AWAY}' >&2; exit 1")
    assert process.stderr.readline() and process.stderr.readline()
    (wrapper,) = children(process.pid) or [process.pid]
    os.kill(wrapper, signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_it_needs_the_standard_library_alone():
    """It runs with -I -S, before any environment."""
    path = Path(__file__).parents[2] / "opd_steps/slurm/srun.py"
    assert subprocess.run([sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(path)!r})"]).returncode == 0
