"""MLflow out of reach, a full or read-only disk, a killed import: one line, nothing lost, and the next import finishes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("mlflow")

from opd_steps.steps import track
from tests.pipeline.checkout import ROOT
from tests.pipeline.mlflow_store import stored
from tests.unit.fake_results import FakeResults

KILLS = 5
OWN_DISK = 'mount -t tmpfs -o size="$2" tmpfs "$1"; cp -a "$1.kept/." "$1"'
READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"'
IN_NAMESPACE = 'cp -a "$1" "$1.kept"; {mount}; folder="$1"; shift 2; status=0; "$@" || status=$?; {after}; exit $status'


def command(fake: FakeResults) -> list[str]:
    options = {"--plan": fake.plan_file, "--results": fake.root, "--out": fake.root / "report/mlflow.json"}
    return [sys.executable, "-m", "opd_steps.steps.track", *(str(x) for pair in options.items() for x in pair)]


def import_once(fake: FakeResults, *prefix: str, **options) -> subprocess.CompletedProcess:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*prefix, *command(fake)], cwd=ROOT, env=env, capture_output=True, text=True, **options)


def in_namespace(fake: FakeResults, mount: str, after: str, size: int = 0) -> subprocess.CompletedProcess:
    """Import in a mount namespace of its own, which needs no root and leaves nothing behind."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces for this user")
    script = IN_NAMESPACE.format(mount=mount, after=after)
    return import_once(fake, "unshare", "-rm", "sh", "-ec", script, "sh", str(fake.root), str(size))


def refused(run: subprocess.CompletedProcess, *parts: str) -> None:
    lines = run.stderr.splitlines()
    assert (run.returncode, len(lines)) == (2, 1), run.stderr
    assert lines[0].startswith("distillery: error: ")
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def fake(tmp_path) -> FakeResults:
    return FakeResults(tmp_path, seeds=(0,))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, dict]:
    """What an undisturbed import makes of the same results."""
    fake = FakeResults(tmp_path_factory.mktemp("unbroken"), seeds=(0,))
    run = import_once(fake)
    assert (run.returncode, run.stderr) == (0, "")
    return stored(fake.root)


def test_a_dead_server_costs_only_the_tracking(copy):
    with socket.socket() as taken:  # a port on which nobody listens
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
    results = copy.folder / "results"
    kept = {p: p.read_bytes() for p in results.glob("smoke/*/*/seed0/*") if p.is_file()}
    (results / "report/index.html").unlink()
    copy.edit("config.yaml", "sqlite:///results/mlflow.db", dead)
    run = copy.snakemake("all", "--keep-going", check=False)
    lines = [line.strip() for line in run.stdout.splitlines() if "distillery: error:" in line]
    assert run.returncode == 1
    assert len(set(lines)) == 1 and f"config.yaml: tracking.uri: {dead}" in lines[0]
    assert "Traceback" not in run.stdout
    assert "</html>" in (results / "report/index.html").read_text()
    assert {p: p.read_bytes() for p in kept} == kept
    copy.edit("config.yaml", dead, "sqlite:///results/mlflow.db")
    copy.snakemake("all")
    assert (results / "report/mlflow.json").exists()
    assert copy.planned("all") == set()


def test_a_dead_server_in_the_step(fake):
    fake.plan["root"]["tracking"]["uri"] = "http://127.0.0.1:9"
    fake.write_plan()
    refused(import_once(fake), "config.yaml: tracking.uri: http://127.0.0.1:9: [Errno 111] Connection refused")
    assert not (fake.root / "report/mlflow.json").exists()


@pytest.mark.parametrize("mib", [0.6, 1.2, 1.7], ids=["while the tables are made", "early in the import", "late in the import"])
def test_a_full_disk(fake, unbroken, mib):
    used = sum(-(-p.stat().st_size // 4096) * 4096 for p in fake.root.rglob("*") if p.is_file())
    run = in_namespace(fake, OWN_DISK, 'cp -a "$folder/." "$folder.kept"', used + int(mib * 2**20))
    refused(run, "config.yaml: tracking.uri")
    assert "full" in run.stderr or "No space left" in run.stderr or "disk I/O error" in run.stderr
    shutil.rmtree(fake.root)
    os.rename(f"{fake.root}.kept", fake.root)  # what the full disk held, on one with room
    assert not (fake.root / "report/mlflow.json").exists()
    assert import_once(fake).returncode == 0
    assert stored(fake.root) == unbroken


def test_a_file_that_may_not_grow(fake, unbroken):
    import resource

    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    refused(import_once(fake, preexec_fn=limit), "config.yaml: tracking.uri")
    assert import_once(fake).returncode == 0
    assert stored(fake.root) == unbroken


def test_a_read_only_disk(fake, unbroken):
    refused(in_namespace(fake, READ_ONLY, ":"), "config.yaml: tracking.uri", "cannot write this database")
    assert import_once(fake).returncode == 0
    assert stored(fake.root) == unbroken


def test_an_index_that_cannot_be_written(fake):
    (fake.root / "report").write_text("a file where a folder should be")
    refused(import_once(fake), "report")


def attempt(fake: FakeResults) -> int:
    """The step in a child process; its id."""
    child = os.fork()
    if child == 0:
        sys.argv = command(fake)[2:]
        try:
            track.main()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def test_killed_at_random_moments(fake, unbroken):
    """SIGKILL, again and again on the same store; now and then an import is faster, and the next starts from nothing."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  once, not in every child

    dice, kills, started = random.Random(0), 0, time.monotonic()
    child = attempt(fake)
    assert os.waitpid(child, 0)[1] == 0
    duration = time.monotonic() - started
    while kills < KILLS:
        if (fake.root / "report").exists():  # done: start anew
            shutil.rmtree(fake.root / "report")
            shutil.rmtree(fake.root / "mlartifacts")
            (fake.root / "mlflow.db").unlink()
        child = attempt(fake)
        time.sleep(dice.uniform(0.02, 0.7 * duration))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or status == 0
        kills += os.WIFSIGNALED(status)
    assert os.waitpid(attempt(fake), 0)[1] == 0
    assert stored(fake.root) == unbroken
