"""Whatever cuts a run off, the documented command ends in the bytes of an undisturbed run, and MLflow neither loses nor doubles anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.rounds import Undisturbed, check, kill
from tests.chaos.trial import PAPER, Moment, Trial

pytestmark = pytest.mark.xdist_group("chaos")
ROUNDS = 6
YEAR = 365 * 86400
PAGE = 4096  # bytes; what a file of one byte takes
SMALL_DISK = 'mount -t tmpfs -o size="$0" tmpfs results; cp -a kept/. results; s=0; "$@" || s=$?; rm -rf kept; cp -a results kept; exit $s'
READ_ONLY = 'mount --bind results results; mount -o remount,ro,bind results; exec "$@"'
FULL = re.compile(r"No space left on device|database or disk is full|disk I/O error")


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


@pytest.fixture(scope="module")
def killed(undisturbed, tmp_path_factory) -> Path:
    """What a run leaves that was killed in the middle, with a training's checkpoint."""
    found = Trial(tmp_path_factory.mktemp("chaos") / "killed")
    assert found.killed_at(Moment("checkpoint", undisturbed.changes["checkpoint"] // 4))
    assert any(found.results.glob(".work/*/checkpoint-*[0-9]"))
    found.close()
    return found.folder


@pytest.fixture
def half(killed, trial) -> Trial:
    """A run that was killed in the middle."""
    return take_over(killed, trial)


@pytest.fixture
def done(undisturbed, trial) -> Trial:
    """A finished run."""
    return take_over(undisturbed.trial.folder, trial)


def take_over(folder: Path, trial: Trial) -> Trial:
    for part in ("results", "logs", ".snakemake"):
        shutil.copytree(folder / part, trial.folder / part, symlinks=True)
    return trial


def in_namespace(script: str, *args: str) -> tuple[str, ...]:
    """What is mounted there is seen by nobody else, and goes with the run."""
    assert subprocess.run(["unshare", "-rm", "true"]).returncode == 0, "this needs mount namespaces (unshare -rm)"
    return ("unshare", "-rm", "sh", "-ec", script, *args)


def error_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if "distillery: error:" in line]


def room(folder: Path, *parts: str) -> int:
    """Bytes that parts of a results folder take."""
    files = [p for part in parts for p in (folder / part).rglob("*") if p.is_file()]
    return sum(-(-p.stat().st_size // PAGE) * PAGE for p in files)


def failed_steps(trial: Trial) -> list[str]:
    """The last line of the log of each step that failed, which is its only complaint."""
    logs = {name: (trial.folder / name).read_text() for name in re.findall(r"^    log: (\S+) \(check", trial.said, re.M)}
    for name, text in logs.items():
        assert len(error_lines(text)) == 1 and "ignored in" not in text, f"{name}:\n{text}"
    return [text.splitlines()[-1] for text in logs.values()]


def test_killed_at_any_moment(undisturbed, trial):
    assert kill(trial, undisturbed, ROUNDS, seed=0) >= 1


def test_a_disk_that_is_full_again_and_again(undisturbed, half):
    """One with room for the first results, then for some more: in checkpoints, in tables of MLflow, in its rows."""
    trial, made = half, undisturbed.trial.results
    there, all_of_them = room(trial.results, "."), room(made, "chaos")
    rooms = [there + 4 * PAGE, all_of_them + 40 * PAGE, all_of_them + room(made, "report") + 300 * PAGE]
    trial.results.rename(trial.folder / "kept")
    trial.results.mkdir()
    for size in rooms:
        assert trial.run("all", prefix=in_namespace(SMALL_DISK, str(size))) == 1, trial.said
        complaints = failed_steps(trial)
        assert complaints and all(FULL.search(line) and "distillery: error: " in line for line in complaints), complaints
        assert trial.tracebacks() == []
    trial.results.rmdir()
    (trial.folder / "kept").rename(trial.results)
    trial.go_on()
    check(trial, undisturbed)


def test_results_made_read_only(half):
    """Nothing changes, so what comes then is what comes of any killed run."""
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in half.results.rglob("*")}
    assert half.run("all", prefix=in_namespace(READ_ONLY, "sh")) == 2
    assert len(error_lines(half.said)) == 1 and "results/.run.lock: cannot write here" in half.said and half.tracebacks() == []
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in half.results.rglob("*")} == before


def test_runs_at_once(undisturbed, half, tmp_path):
    """Of two that start at the same moment one works; later a third comes, from another clone. Both are refused with one line."""
    trial, first = half, half.start("all")
    second = subprocess.Popen(**trial.command("all", *PAPER), stdout=subprocess.PIPE, start_new_session=True)
    while not any(trial.results.glob("chaos/pretrain/*/*/manifest.json")):
        assert None in (first.poll(), second.poll()), trial.said
        time.sleep(0.01)
    other = Trial(tmp_path / "other")
    assert other.run("all", config=(f"pathvars={{results: {trial.results}}}",)) == 2
    said, _ = second.communicate(timeout=300)
    assert sorted([first.wait(300), second.returncode]) == [0, 2], (trial.said, said)
    refused = [other.said, said if second.returncode == 2 else trial.said]
    for text, folder in zip(refused, (str(trial.results), "results"), strict=True):
        assert len(error_lines(text)) == 1, text
        assert f"distillery: error: {folder}: another run works in this results folder: host" in text
    assert not any("Traceback" in text for text in (*refused, trial.said, said))
    other.close()
    trial.go_on()
    check(trial, undisturbed)


def shifted(folder: Path, seconds: float) -> None:
    """All times below the folder, as if they had been made by a clock that went wrong."""
    for path in [folder, *folder.rglob("*")]:
        stat = path.stat(follow_symlinks=False)
        os.utime(path, (stat.st_atime + seconds, stat.st_mtime + seconds), follow_symlinks=False)


def test_the_clock_is_set_back(undisturbed, half):
    """In the middle of a run: what there is lies in the future."""
    shifted(half.folder, YEAR)
    half.go_on()
    check(half, undisturbed)


@pytest.mark.parametrize("seconds", [YEAR, -YEAR], ids=["future", "past"])
def test_times_alone_rerun_nothing(done, seconds):
    for part in ("results", "opd_steps", "workflow", "rules"):
        shifted(done.folder / part, seconds)
    assert done.run("all", "-n") == 0 and "Nothing to be done" in done.said, done.said


def test_a_job_on_a_machine_whose_clock_is_behind(done):
    """As Snakemake runs it on a cluster, in a process of its own."""
    shifted(done.results, YEAR)
    there = ("--mode", "remote", "--force", "--no-hooks", "--target-jobs", "gather:paper=chaos", "--allowed-rules", "gather")
    assert done.run(*there) == 0 and "1 of 1 steps" in done.said, done.said
