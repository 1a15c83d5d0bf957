"""Whatever cuts a run off, the documented command ends in the bytes of an undisturbed run, and MLflow neither loses nor doubles anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.rounds import Undisturbed, check, kill
from tests.chaos.trial import PAPER, Moment, Trial

pytestmark = pytest.mark.xdist_group("chaos")
ROUNDS = 10
YEAR = 365 * 86400
FULL = 'mount -t tmpfs -o size="$0" tmpfs results; s=0; "$@" || s=$?; cp -a results/. kept; exit $s'
READ_ONLY = 'mount --bind results results; mount -o remount,ro,bind results; exec "$@"'


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Undisturbed:
    found = Undisturbed.run(tmp_path_factory.mktemp("chaos") / "undisturbed")
    yield found
    found.trial.close()


@pytest.fixture
def trial(tmp_path) -> Trial:
    found = Trial(tmp_path / "trial")
    yield found
    found.close()


@pytest.fixture
def done(undisturbed, trial) -> Trial:
    """A finished run."""
    for part in ("results", "logs", ".snakemake"):
        shutil.copytree(undisturbed.trial.folder / part, trial.folder / part, symlinks=True, dirs_exist_ok=True)
    return trial


@pytest.fixture
def half(undisturbed, trial) -> Trial:
    """A run that was killed in the middle, beside a training's checkpoint."""
    assert trial.killed_at(Moment("checkpoint", undisturbed.changes["checkpoint"] // 4))
    assert any(trial.results.glob(".work/*/checkpoint-*[0-9]"))
    return trial


def in_namespace(script: str, *args: str) -> tuple[str, ...]:
    """What is mounted there is seen by nobody else, and goes with the run."""
    assert subprocess.run(["unshare", "-rm", "true"]).returncode == 0, "this needs mount namespaces (unshare -rm)"
    return ("unshare", "-rm", "sh", "-ec", script, *args)


def error_lines(trial: Trial) -> set[str]:
    """What we say to the user, each once: Snakemake shows the log of a job that fails."""
    return {line.strip() for line in trial.said.splitlines() if "distillery: error:" in line}


def test_killed_at_any_moment(undisturbed, trial):
    assert kill(trial, undisturbed, ROUNDS, seed=0) >= 1


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_a_full_disk(undisturbed, trial, share):
    """One with room for a part of the results; then they lie on a larger one."""
    size = sum(p.stat().st_blocks * 512 for p in undisturbed.trial.results.rglob("*"))
    for folder in (trial.results, trial.folder / "kept"):
        folder.mkdir()
    assert trial.run("all", "--keep-going", prefix=in_namespace(FULL, str(int(share * size)))) != 0
    assert "No space left" in trial.said or "disk is full" in trial.said or "Errno 28" in trial.said, trial.said[-3000:]
    trial.results.rmdir()
    (trial.folder / "kept").rename(trial.results)
    trial.go_on()
    check(trial, undisturbed)


def test_results_made_read_only(undisturbed, half):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in half.results.rglob("*")}
    assert half.run("all", prefix=in_namespace(READ_ONLY, "sh")) == 2
    assert len(error_lines(half)) == 1 and "results" in half.said and half.tracebacks() == []
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in half.results.rglob("*")} == before
    half.go_on()
    check(half, undisturbed)


def test_two_runs_at_once(undisturbed, trial):
    """Of two that start at the same moment at most one works, and says so to the other."""
    first = trial.start("all")
    second = subprocess.Popen(**trial.command("all", *PAPER), stdout=subprocess.PIPE, start_new_session=True)
    said, _ = second.communicate(timeout=300)
    statuses = sorted([first.wait(300), second.returncode])
    assert statuses in ([0, 1], [0, 2], [1, 1]), (statuses, trial.said, said)
    assert trial.tracebacks() == [] and "Traceback" not in said
    assert "cannot be locked" in trial.said + said or "another run works in this results folder" in trial.said + said
    trial.go_on()
    check(trial, undisturbed)


def test_another_clone_in_the_same_results(undisturbed, trial, tmp_path):
    run = trial.start("all")
    while not any(trial.results.glob("chaos/data/*/*/manifest.json")):
        assert run.poll() is None
        time.sleep(0.01)
    other = Trial(tmp_path / "other")
    status = other.run("all", config=(f"pathvars={{results: {trial.results}}}",))
    assert status == 2 and len(error_lines(other)) == 1, other.said
    assert f"{trial.results}: another run works in this results folder: host" in other.said
    other.close()
    assert run.wait(300) == 0, trial.said
    check(trial, undisturbed)


def shifted(folder: Path, seconds: float) -> None:
    """All times below the folder, as if they had been made by a clock that went wrong."""
    for path in [folder, *folder.rglob("*")]:
        stat = path.stat(follow_symlinks=False)
        os.utime(path, (stat.st_atime + seconds, stat.st_mtime + seconds), follow_symlinks=False)


@pytest.mark.parametrize("seconds", [YEAR, -YEAR], ids=["set back", "set forward"])
def test_the_clock_is_set(undisturbed, half, seconds):
    """In the middle of a run: what there is lies in the future, or long ago."""
    shifted(half.folder, seconds)
    half.go_on()
    check(half, undisturbed)


@pytest.mark.parametrize("part", ["results", "opd_steps", "workflow", "rules"])
@pytest.mark.parametrize("seconds", [YEAR, -YEAR], ids=["future", "past"])
def test_times_alone_rerun_nothing(done, part, seconds):
    shifted(done.folder / part, seconds)
    assert done.run("all", "-n") == 0 and "Nothing to be done" in done.said, done.said
