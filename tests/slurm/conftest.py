"""One cluster and one local run of the same papers serve all tests here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.slurm.loopslurm import LoopSlurm
from tests.slurm.run import SlurmCheckout

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def cluster():
    with LoopSlurm() as slurm:
        yield slurm
    assert slurm.leftovers() == []


@pytest.fixture(scope="session")
def local(tmp_path_factory, cluster) -> SlurmCheckout:
    """Papers small and faults, finished on this machine without Slurm. Never change it: see `copy`."""
    checkout = SlurmCheckout(tmp_path_factory.mktemp("local") / "checkout", cluster)
    for paper in HERE.glob("*.yaml"):
        shutil.copy(paper, checkout.folder / "workflow/papers")
    checkout.snakemake("benchmarks", "students", "teachers", "--config", "papers=[small,faults]")
    return checkout


@pytest.fixture
def copy(local, tmp_path) -> SlurmCheckout:
    """A copy of the local run, results and Snakemake's records included, times kept."""
    checkout = object.__new__(SlurmCheckout)
    checkout.cluster, checkout.folder = local.cluster, tmp_path / "checkout"
    shutil.copytree(local.folder, checkout.folder, symlinks=True)
    return checkout


@pytest.fixture
def fresh(local, copy) -> SlurmCheckout:
    """The same checkout before its first run."""
    for part in ("results", "logs", "benchmarks", ".snakemake"):
        shutil.rmtree(copy.folder / part, ignore_errors=True)
    return copy
