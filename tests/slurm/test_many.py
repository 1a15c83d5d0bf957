"""Many jobs that do nothing: none is lost. (tests/bench/slurm_jobs.py times more of them.)"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("slurm")
COUNT = 24


def test_no_job_is_lost(fresh):
    shutil.copy(Path(__file__).parent / "tiny.smk", fresh.folder / "workflow")
    text = fresh.run("all", "--snakefile", "workflow/tiny.smk", "--jobs", "8", "--config", f"count={COUNT}").end()
    assert len(list((fresh.folder / "tiny").iterdir())) == COUNT
    jobs = [j for j in fresh.cluster.jobs() if j["folder"] == str(fresh.folder)]
    assert [j["state"] for j in jobs] == ["COMPLETED"] * COUNT
    assert f"{COUNT + 1} of {COUNT + 1} steps (100%) done" in text
