"""Checkpoints that are written beside the steps: the bytes, and the guarantees, of those that are written at once."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.loop import checkpoint, shards
from opd_steps.loop.saver import Saver
from tests.unit import test_train
from tests.unit.test_train import Killed, run


def made(fill: float) -> dict:
    model = torch.nn.Linear(3, 2)
    for weight in model.parameters():
        torch.nn.init.constant_(weight, fill)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {"": (model, optimizer)}


def state() -> dict:
    return {"hooks": [{"mean": 1.5, "rows": torch.tensor([1.0, torch.nan])}]}


def files(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def disk(monkeypatch):
    """A disk that writes when it is let: (begun, may_go)."""
    begun, may_go, real = threading.Event(), threading.Event(), shards.write

    def slow(*args):
        begun.set()
        assert may_go.wait(60)
        real(*args)

    monkeypatch.setattr(shards, "write", slow)
    yield begun, may_go
    may_go.set()


def test_the_bytes_are_those_of_its_step(tmp_path, disk):
    begun, may_go = disk
    for name in ("once", "beside"):
        (tmp_path / name).mkdir()
    trained, saver = made(1.0), Saver(tmp_path / "beside", beside=True)
    saver.save(3, trained, state())
    assert begun.wait(60)
    with torch.no_grad():  # steps go on
        trained[""][0].weight.fill_(7.0)
        trained[""][1].state[trained[""][0].weight]["exp_avg"].fill_(7.0)
    saver.settle()
    assert checkpoint.newest(tmp_path / "beside") is None  # it is on its way
    may_go.set()
    saver.settle(wait=True)
    Saver(tmp_path / "once", beside=False).save(3, made(1.0), state())
    assert files(tmp_path / "beside") == files(tmp_path / "once")
    assert {name.partition("/")[0] for name in files(tmp_path / "beside")} == {"checkpoint-00000003"}


def test_the_one_before_is_there_until_all_of_the_next_is_on_the_disk(tmp_path, disk):
    begun, may_go = disk
    may_go.set()
    saver = Saver(tmp_path, beside=True)
    saver.save(1, made(1.0), state())
    saver.settle(wait=True)
    may_go.clear()
    begun.clear()
    saver.save(2, made(2.0), state())
    assert begun.wait(60)
    for _ in range(3):
        saver.settle()
        assert checkpoint.newest(tmp_path).name == "checkpoint-00000001"
    threading.Timer(0.2, may_go.set).start()
    saver.save(3, made(3.0), state())  # waits for the second
    assert checkpoint.newest(tmp_path).name == "checkpoint-00000002"
    saver.settle(wait=True)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000003"]
    loaded = made(0.0)
    assert checkpoint.load(tmp_path, loaded)["step"] == 3
    assert torch.equal(loaded[""][0].weight, made(3.0)[""][0].weight)


def test_killed_while_it_writes(tmp_path, monkeypatch):
    Saver(tmp_path, beside=False).save(1, made(1.0), state())
    real = shards.write

    def dying(folder, part, rows):
        real(folder, part, rows)
        if part == "model":
            os._exit(9)

    child = os.fork()
    if not child:
        shards.write = dying
        saver = Saver(tmp_path, beside=True)
        saver.save(2, made(2.0), state())
        saver.settle(wait=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "checkpoint-tmp/model.safetensors").exists()
    loaded = made(0.0)
    assert checkpoint.load(tmp_path, loaded)["step"] == 1 and torch.equal(loaded[""][0].weight, made(1.0)[""][0].weight)
    saver = Saver(tmp_path, beside=True)  # what is left over is in nobody's way
    saver.save(2, made(2.0), state())
    saver.settle(wait=True)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000002"]


def test_one_that_cannot_be_written_is_told_in_one_line(tmp_path, monkeypatch):
    saver = Saver(tmp_path, beside=True)
    saver.save(1, made(1.0), state())
    saver.settle(wait=True)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write", full)
    saver.save(2, made(2.0), state())
    with pytest.raises(
        UserError, match=r"the checkpoint after step 2 could not be written: .*No space left.*; the one before stays$"
    ):
        saver.settle(wait=True)
    assert checkpoint.newest(tmp_path).name == "checkpoint-00000001"
    saver.settle(wait=True)  # nothing is on its way any more


def test_a_training_ends_with_the_bytes_of_one_that_waits(tmp_path, monkeypatch):
    run(tmp_path / "once")
    real = test_train.train
    beside = lambda job, *args: job.options.update(checkpoint_async=True) or real(job, *args)
    monkeypatch.setattr(test_train, "train", beside)
    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "broken", kill_at=6)
    run(tmp_path / "broken")
    assert files(tmp_path / "once") == files(tmp_path / "whole") == files(tmp_path / "broken")
