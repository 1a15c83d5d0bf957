"""Two processes train as one does: the same curves and weights within fp32 noise, whatever the objective, head and micro-batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from safetensors.torch import load_file

from opd_steps.process import ranks
from opd_steps.process.launch import launch
from tests.unit import opd_toys
from tests.unit.parallel_toys import CASES, eight_bits, folder_of, sft


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """All cases in one run of two processes, for all of pytest's workers. Never change it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "two_processes"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            opd_toys.make(folder / "nodes")
            assert launch(2, "tests.unit.parallel_toys", [str(folder)]) == 0
            (folder / "done").touch()
    return folder


def curves(folder: Path) -> list[dict[str, float]]:
    (file,) = folder.rglob("metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(two, tmp_path, case):
    one, both = CASES[case](tmp_path / "one"), load_file(folder_of(two, case) / "weights.safetensors")
    assert both.keys() == one.keys()
    for name, value in one.items():
        assert (both[name] - value).norm() < 1e-5 * value.norm(), name
    expected, found = curves(tmp_path / "one"), curves(folder_of(two, case))
    assert [row.keys() for row in found] == [row.keys() for row in expected] and len(found) == 6
    for row, other in zip(found, expected, strict=True):
        near = {name: pytest.approx(value, rel=1e-5, abs=1e-5) for name, value in other.items()}
        if worst := other.get("train/sampler_gap_max"):  # of one token, and of log-probs of either sign, which are not small
            near["train/sampler_gap_max"] = pytest.approx(worst, rel=1e-4, abs=1e-5)
        assert row == near


def test_moments_in_eight_bits_train_as_one_process_does_but_for_ties(two, tmp_path):
    one, both = eight_bits(tmp_path / "one"), load_file(folder_of(two, "eight bits") / "weights.safetensors")
    for name, value in one.items():
        assert (both[name] - value).norm() < 1e-3 * value.norm(), name


@pytest.mark.parametrize("case", ["sft", "opd, looked at", "opd, lora", "opd, all that has a state", "dropout", "eight bits"])
def test_a_killed_and_resumed_run_ends_with_the_same_bytes(two, case):
    whole, resumed = folder_of(two, case), folder_of(two, f"{case}, killed")
    listed = lambda base: sorted(
        p.relative_to(base) for p in base.rglob("*") if p.is_file() and p.suffixes != [".timing", ".json"]
    )
    files = listed(whole)
    assert files == listed(resumed) and len(files) >= 6
    assert [f for f in files if (whole / f).read_bytes() != (resumed / f).read_bytes()] == []


def test_dropout_was_on(two):
    loss = lambda case: [row["train/loss"] for row in curves(folder_of(two, case))]
    assert loss("dropout") != loss("sft")


def test_one_process_goes_on_from_a_checkpoint_of_two(two, tmp_path):
    left = Path(shutil.copytree(two / "left", tmp_path / "left"))
    one, resumed = sft(tmp_path / "one"), sft(left)
    for name, value in one.items():
        assert (resumed[name] - value).norm() < 1e-5 * value.norm(), name


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("mistake", 2, "distillery: error: data.jsonl:7: expected a number\n"),
        ("kill", 137, "distillery: error: process 1 of 2 ended with status -9\n"),
        (
            "overflow",
            2,
            "distillery: error: p/sft/toy/seed3: step 2: train/grad_norm is nan; nothing is published, there is no checkpoint yet\n",
        ),
        (
            "spoil",
            2,
            "distillery: error: p/sft/toy/seed3: step 3: after the update the parameter model.layers.1.mlp.up_proj.weight is not finite; "
            "nothing is published, the checkpoint after step 2 stays\n",
        ),
    ],
)
def test_what_goes_wrong_in_one_ends_both_and_is_told_once(tmp_path, capfd, how, code, says):
    assert launch(2, "tests.unit.parallel_toys", [str(tmp_path), how]) == code
    assert capfd.readouterr().err == says


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 7, 8])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_micro_batches_of_all_ranks_are_the_batch(monkeypatch, count, rows, size):
    monkeypatch.setattr(ranks, "world", lambda: count)
    made = []
    for k in range(count):
        monkeypatch.setattr(ranks, "rank", lambda k=k: k)
        made.append(ranks.micro_batches(rows, size))
    assert len({len(slices) for slices in made}) == 1  # each is a collective
    assert all(s.stop - s.start <= size for slices in made for s in slices)
    assert [i for slices in made for s in slices for i in range(s.start, s.stop)] == list(range(rows))
