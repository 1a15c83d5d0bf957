"""A disk that takes no more: every kind of write ends in one line; and what a job left that died behind its publication is cleared."""

from __future__ import annotations

import errno
import json
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from opd_steps.errors import UserError, disk_errors
from opd_steps.loop import checkpoint
from opd_steps.loop.optim import make_optimizer
from opd_steps.models.folder import save_model
from opd_steps.models.tokenizers import char_tokenizer
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.table import write_rollouts, write_scores
from opd_steps.store import artifacts, lock
from opd_steps.store.artifacts import Job, sweep
from opd_steps.store.files import write_json, write_jsonl
from opd_steps.store.metrics import MetricsLog
from tests.unit.test_train import OPTIM
from tests.unit.tiny import qwen

WHERE = "results/p/opd/student/seed0"


@contextmanager
def files_end_at(size: int):
    """No file of this process grows beyond so many bytes: as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_checkpoint(folder: Path) -> None:
    model = qwen()
    checkpoint.save(folder, 1, {"": (model, make_optimizer(model, OPTIM))}, {"hooks": []})


def rollouts(folder: Path) -> None:
    actions = [torch.zeros(400, dtype=torch.long)] * 3
    logp, ones = [torch.randn(400)] * 3, torch.ones(3)
    rows = Trajectory([[1]] * 3, actions, torch.arange(3), logp, ones, torch.arange(3), ones.bool())
    write_rollouts(folder, rows, ["a", "b", "c"], ["text"] * 3)


WRITES = {
    "json": lambda folder: write_json(folder / "x.json", ["text"] * 100),
    "jsonl": lambda folder: write_jsonl(folder / "x.jsonl", [{"a": "text"}] * 100),
    "a figure": lambda folder: MetricsLog(folder / "metrics.jsonl").append(1, {f"train/{i}": 0.5 for i in range(20)}),
    "checkpoint": save_checkpoint,
    "model": lambda folder: save_model(qwen(), char_tokenizer("abc"), folder / "model"),
    "tokenizer": lambda folder: char_tokenizer("abc").save_pretrained(folder),
    "rollouts": rollouts,
    "scores": lambda folder: write_scores(folder, [torch.randn(400)]),
}


@pytest.mark.parametrize("what", WRITES)
def test_every_write_tells_of_a_full_disk_in_one_line(tmp_path, what):
    full = r"File too large; make room and run again, it goes on$"
    with pytest.raises(UserError, match=full) as told, disk_errors(WHERE), files_end_at(100):
        WRITES[what](tmp_path)
    assert told.value.where == WHERE or told.value.where.startswith(str(tmp_path))


def test_a_file_in_the_way_and_a_forbidden_one_are_named(tmp_path):
    (tmp_path / "file").touch()
    for do in ((tmp_path / "file/x").mkdir, (tmp_path / "file").mkdir, tmp_path.read_text):
        with pytest.raises(UserError, match=str(tmp_path)), disk_errors(WHERE):
            do()
    with pytest.raises(UserError, match=f"{WHERE}: Permission denied"), disk_errors(WHERE):
        raise PermissionError(errno.EACCES, "told otherwise")


@pytest.mark.parametrize(
    "fault", [ValueError("x"), FileNotFoundError(errno.ENOENT, "x", "y"), ConnectionError("x"), UserError("a", "b")]
)
def test_other_faults_stay_what_they_are(fault):
    with pytest.raises(type(fault)) as raised, disk_errors(WHERE):
        raise fault
    assert raised.value is fault


def test_a_lock_on_a_full_disk(tmp_path):
    with files_end_at(0), pytest.raises(UserError, match="lock: cannot write here: File too large"):
        lock.acquire(tmp_path / "lock", "taken")
    lock.acquire(tmp_path / "lock", "taken").close()  # the failed try holds nothing


class Died(Exception):
    pass


def die(*_: object) -> None:
    raise Died


def publish(results: Path, monkeypatch, dies_at: str = "") -> Job:
    config = {"kind": "analyze", "options": {}, "parents": {}, "seed": 0}
    job = Job(config, {}, results / "my.paper-2/analyze/moved/seed0/manifest.json")
    with job, monkeypatch.context() as patch:
        if dies_at == "clear":
            patch.setattr(Job, "clear", die)
        if dies_at == "rename":
            patch.setattr(artifacts.os, "rename", die)
        (job.stage / "x.txt").write_text("x")
        job.publish({}, {})
    return job


def test_what_a_job_leaves_that_dies_behind_its_publication_is_cleared(tmp_path, monkeypatch):
    with pytest.raises(Died):
        publish(tmp_path, monkeypatch, "clear")
    (work,) = (tmp_path / ".work").iterdir()
    assert "wall_s" in json.loads((tmp_path / "my.paper-2/analyze/moved/seed0.timing.json").read_text())
    with lock.acquire(work / "lock", "taken"):
        sweep(tmp_path)
        assert work.exists()  # on another machine of a cluster it is just ending
    sweep(tmp_path)
    assert not work.exists() and (tmp_path / "my.paper-2/analyze/moved/seed0/x.txt").exists()


def test_checkpoints_of_what_is_not_published_stay(tmp_path, monkeypatch):
    with pytest.raises(Died):
        publish(tmp_path, monkeypatch, "rename")
    assert (tmp_path / "my.paper-2/analyze/moved/seed0.timing.json").exists()  # nobody writes it for what is published
    (work,) = (tmp_path / ".work").iterdir()
    sweep(tmp_path)
    assert work.exists()
    publish(tmp_path, monkeypatch)
    assert list((tmp_path / ".work").iterdir()) == []
