"""Several ranks write a checkpoint together, each its own rows; any number of them reads it, and so does torch.distributed.checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from opd_steps.errors import UserError
from opd_steps.loop import checkpoint
from opd_steps.process.launch import launch
from tests.unit.parallel_toys import sft
from tests.unit.shard_toys import read_small, state, updated
from tests.unit.tiny import qwen


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Never change it."""
    folder, run = tmp_path_factory.mktemp("shards"), "tests.unit.shard_toys"
    assert launch(2, run, [str(folder), "write"]) == 0
    assert launch(2, run, [str(folder), "die"]) == 137
    for name in ("left", "died"):
        for count in (1, 3):
            shutil.copytree(folder / name, folder / f"{name}{count}")
    assert launch(3, run, [str(folder), "resume"]) == 0
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict, list[dict]]:
    """Weights and curves of the run that nothing broke, in one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return sft(folder), curves(folder)


def curves(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["left", "died"])
def test_one_and_three_go_on_from_what_two_wrote(folder, whole, name):
    """Also where one of the two was killed while it wrote the next one: from the one before."""
    files = {p.name: sorted(f.name for f in p.iterdir()) for p in (folder / name).glob("checkpoint-*")}
    parts = [f"{part}-0000{k}-of-00002.safetensors" for part in ("model", "optimizer", "state") for k in range(2)]
    assert files.pop("checkpoint-00000002") == [*parts, "state.json"]
    assert list(files) == (["checkpoint-tmp"] if name == "died" else [])
    shutil.copytree(folder / f"{name}1", copy := folder / f"{name}1-run")
    for found, at in ((sft(copy), copy), (load_file(folder / f"{name}3.safetensors"), folder / f"{name}3")):
        for key, value in whole[0].items():
            assert (found[key] - value).norm() < 1e-5 * value.norm(), key
        for row, expected in zip(curves(at), whole[1], strict=True):
            assert row == {key: pytest.approx(value, rel=1e-5, abs=1e-5) for key, value in expected.items()}


def expected_small() -> dict[str, torch.Tensor]:
    model, optimizer = updated(qwen(seed=0))
    names = {p: name for name, p in model.named_parameters()}
    kept = state(model, torch.nan)["hooks"]
    made = {f"{key}/{names[p]}": value for p, entry in optimizer.state.items() for key, value in entry.items()}
    made |= {f"model/{name}": p.detach() for p, name in names.items()} | {f"average/{n}": v for n, v in kept[0].items()}
    return made | kept[1]


@pytest.mark.parametrize("readers", [1, 3])
def test_weights_moments_and_states_come_back(folder, readers):
    found = read_small(folder) if readers == 1 else load_file(folder / "small3.safetensors")
    expected = expected_small()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7, equal_nan=True, msg=name)


def test_no_rank_holds_more_than_its_own(folder):
    """Nothing is copied to be written; what is read are the moments, two for each weight, and one tensor on its way. Of whole tensors the
    first rank would hold six times its own weights."""
    for told in (json.loads((folder / f"rank{k}.json").read_text()) for k in range(2)):
        assert told["weights"] > 20e6
        assert told["saving"] < 0.2 * told["weights"]
        assert told["loading"] < 2.5 * told["weights"]


def test_torch_distributed_checkpoint_reads_them(folder):
    model, optimizer = updated(qwen(seed=0))
    expected = {name: p.detach() for name, p in model.named_parameters()}
    expected |= {f"{name}.exp_avg": optimizer.state[p]["exp_avg"] for name, p in model.named_parameters()}
    found = {name: torch.empty_like(value) for name, value in expected.items()}
    (at,) = (folder / "small").glob("checkpoint-*")
    dcp.load(found, storage_reader=dcp.HuggingFaceStorageReader(str(at)), no_dist=True)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("file", ["model-00001-of-00002", "optimizer-00000-of-00002", "state-00001-of-00002"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_part_that_is_gone_or_cut_is_damage(folder, tmp_path, file, how):
    shutil.copytree(folder / "small", tmp_path / "small")
    (at,) = (tmp_path / "small").glob("checkpoint-*")
    damaged = at / f"{file}.safetensors"
    damaged.unlink() if how == "gone" else damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"this checkpoint is damaged .*; delete it and run again"):
        checkpoint.load(tmp_path / "small", {"": updated(qwen(seed=1))})


def test_threads_of_two_ranks_write_the_bytes_that_the_ranks_would(tmp_path):
    """While the weights change; each rank's rows of weights, moments and averages."""
    assert launch(2, "tests.unit.shard_toys", [str(tmp_path), "beside"]) == 0
    once, beside = (
        {p.name: p.read_bytes() for p in (tmp_path / name / "checkpoint-00000001").iterdir()} for name in ("once", "beside")
    )
    assert len(once) == 7 and once == beside
