"""Over five hundred broken inputs: each is taken, and then everything resolves, or one line refuses it and names its place."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings

from tests.broken import configs, folders, rows
from tests.broken.outcome import Outcome, files
from tests.pipeline.checkout import Checkout

MORE = int(os.environ.get("BROKEN_INPUTS", "1"))  # times as many


def cases(count: int):
    """The same ones every time; `python -m tests.broken` draws others."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count * MORE, derandomize=True, database=None, deadline=None, suppress_health_check=quiet)


@cases(320)
@given(configs.everything)
def test_configs_papers_names_and_command_lines(case):
    assert configs.examine(case) == "", case


@cases(140)
@given(rows.everything)
def test_data(case):
    assert rows.examine(case) == "", case


@cases(60)
@given(folders.everything)
def test_checkpoints(case):
    assert folders.examine(case) == "", case


def test_what_is_not_broken_is_taken(tmp_path):
    """Without this the tests above would be content with a program that refuses all."""
    configs.lay(tmp_path / "configs", configs.Case("good", ()))
    assert configs.dry_run(tmp_path / "configs", ()).status == 0
    (tmp_path / "rows").mkdir()
    rows.lay(tmp_path / "rows", rows.Rows("good", rows.TEXT.encode()))
    assert rows.make(tmp_path / "rows").status == 0
    assert {split: len(found) for split, found in rows.published(tmp_path / "rows").items()} == {
        "train": 7,
        "test": 2,
        "ood": 0,
    }
    folders.lay(tmp_path / "folders", folders.Checkpoint("good", "config.json", folders.text("config.json").encode()))
    assert folders.use(tmp_path / "folders").status == 0


def test_faults_are_seen():
    """Of each kind that the judge knows."""
    place = ("x.yaml",)
    right = "distillery: error: x.yaml: nodes.a: no\n"
    assert Outcome(2, right).fault(place) == Outcome(2, right * 3).fault(place) == Outcome(0, "").fault(place) == ""
    assert "traceback" in Outcome(1, "Traceback (most recent call last):\n  x\nKeyError: 1").fault(place)
    assert "taken" in Outcome(0, "").fault(place, must_fail=True)
    assert "names none" in Outcome(2, "distillery: error: y.yaml: no\n").fault(place)
    assert "0 lines" in Outcome(2, "usage: x").fault(place) and "status 1" in Outcome(1, right).fault(place)
    assert "signal" in Outcome(-11, "").fault(place) and "no end" in Outcome(124, "").fault(place)
    assert "changed" in Outcome(2, right, ("config.yaml",)).fault(place)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("broken") / "checkout")


@cases(12)
@given(configs.everything.filter(lambda case: "\0" not in "".join(case.given)))
def test_the_command_itself(checkout, case):
    """`snakemake -n all`: as above, where the words are ours; what Snakemake itself refuses needs no line of ours."""
    shutil.rmtree(checkout.folder / "workflow/papers")
    for name in ("results", "config.yaml"):
        (checkout.folder / name).unlink(missing_ok=True)  # a dry run makes no folder there
    configs.lay(checkout.folder, case)
    before = files(checkout.folder)
    how = checkout.command()
    how["args"] = [*how["args"][:5], "-n", "all", *(("--config", *case.given) if case.given else ())]
    run = subprocess.run(**how, stdout=subprocess.PIPE)
    found = Outcome(run.returncode, run.stdout, tuple(sorted(before.items() ^ files(checkout.folder).items())))
    if found.lines or found.status == 0:
        assert found.fault(case.places, case.must_fail) == "", case
    assert "Traceback" not in run.stdout and not found.changed, case
