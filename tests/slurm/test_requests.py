"""Requests that the cluster can never serve, on the real daemons: one line that names rule and request, and an end."""

from __future__ import annotations

import pytest

from tests.slurm.test_faults import PAPER, add_nodes

pytestmark = pytest.mark.xdist_group("slurm")
NAME = "distillery: error: rule pretrain, faults/wrong seed 0: "


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ("slurm_partition=gpuu", "slurm_partition: no partition 'gpuu'; this Slurm has gpu, low, lowcancel"),
        ("gpu=3", "gpu: 3; no node in partition gpu has more than 2"),
        ("mem_mb=5001", "mem_mb: 5001; no node in partition gpu has more than 5000"),
        ("runtime=61", "runtime: 61 minutes; the longest walltime in partition gpu is 60"),
        (
            "runtime=2",
            "runtime: 2 minutes; the signal of slurm_extra (--signal=TERM@120 --open-mode=append) comes 2 minutes before",
        ),
    ],
)
def test_refused_before_submission(copy, ask, says):
    add_nodes(copy, "wrong")
    text = copy.run("teachers", *PAPER, "--set-resources", f"pretrain:{ask}").end(2, 60)
    said = [line for line in text.splitlines() if line.startswith("distillery: error:")]
    assert len(said) == 1 and said[0].startswith(NAME + says), text
    assert "Traceback" not in text and copy.slurm_jobs("wrong") == []
    assert list((copy.folder / ".snakemake/locks").glob("*")) == []  # nothing to unlock


def test_what_becomes_impossible_while_it_waits(copy):
    """Slurm itself would keep it pending for ever."""
    add_nodes(copy, "wrong")
    cluster = copy.cluster
    cluster.run("scontrol", "update", "partitionname=low", "state=down")
    try:
        run = copy.run("teachers", *PAPER, "--retries", "0", "--set-resources", "pretrain:slurm_partition=low")
        run.until("the reason", lambda: "waits: PartitionDown" in run.text, 60)
        cluster.run("scontrol", "update", "partitionname=low", "state=up", "maxtime=1")
        text = run.end(1, 90)
    finally:
        cluster.run("scontrol", "update", "partitionname=low", "state=up", "maxtime=60")
    (job,) = copy.slurm_jobs("wrong")
    assert job["state"] == "CANCELLED"
    assert "Error in rule pretrain" in text and f"Slurm job {job['id']} waits for ever (PartitionTimeLimit)" in text
