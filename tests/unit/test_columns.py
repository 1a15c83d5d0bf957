"""Every column of a trajectory survives a file, a buffer and a checkpoint: type, shape, bits."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from opd_steps.errors import UserError
from opd_steps.loop import checkpoint
from opd_steps.loop.buffer import RolloutBuffer, RolloutRing
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.columns import flatten, pack, restore, unpack
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.table import read_rollouts, write_rollouts

LENGTHS = (2, 0, 3)
NOISE = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
COLUMNS = {
    "stack of numbers": torch.tensor([0.1, torch.nan, -torch.inf]),
    "stack of images": NOISE(3, 2, 4, 4),
    "bytes": torch.arange(24, dtype=torch.uint8).view(3, 2, 4),
    "flags": torch.tensor([True, False, True]),
    "latents": [NOISE(n, 2, 3) for n in LENGTHS],
    "doubles": [NOISE(n).double() for n in LENGTHS],
    "masks": [torch.arange(n) > 0 for n in LENGTHS],
    "single numbers": [torch.tensor(float(i)) for i in range(3)],
    "token ids": [[1, 2, 3], [], [4]],
    "empty lists": [[], [], []],
    "floats": [0.1, float("nan"), 1e300],
    "whole numbers": [1, 2**40, -3],
    "truths": [True, False, False],
    "words": ["student", "", "ü"],
    "questions": [{"ids": [7] * n, "pixels": NOISE(3, n, 2), "name": str(n)} for n in (1, 2, 3)],
}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.nan_to_num(7.0).equal(b.nan_to_num(7.0)) and a.device == b.device
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return type(b) is list and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def equal(a: Trajectory, b: Trajectory) -> None:
    assert vars(a).keys() == vars(b).keys() and a.extra.keys() == b.extra.keys()
    assert [name for name in a.extra if not same(a.extra[name], b.extra[name])] == []
    assert [name for name in vars(a) if name != "extra" and not same(getattr(a, name), getattr(b, name))] == []


def text(version: int = 0) -> Trajectory:
    return Trajectory(
        [[1, 2], [3], [4, 5, 6]],
        [torch.arange(n) for n in (2, 1, 3)],
        torch.tensor([0, 0, 1]),
        [-NOISE(n).abs() for n in (2, 1, 3)],
        torch.tensor([1.0, 0.0, torch.nan]),
        torch.full((3,), version),
        torch.tensor([True, False, True]),
        {"source": ["prefix", "student", "prefix"], **COLUMNS},
    )


def motion() -> Trajectory:
    """Actions [T, D] of a robot that nobody judged, seen as images beside words."""
    actions = [NOISE(n, 2) for n in (2, 1, 3)]
    return Trajectory(COLUMNS["questions"], actions, torch.arange(3), logp=[NOISE(n) for n in (2, 1, 3)], extra=COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_as_it_was(name):
    if name != "questions":
        assert same(restore(flatten(name, COLUMNS[name])), COLUMNS[name])


@pytest.mark.parametrize("rows", [text(), motion()], ids=["text", "motion"])
def test_a_table_keeps_every_column(tmp_path, rows):
    write_rollouts(tmp_path, rows, ["a", "b", "c"], ["x", "y", "z"])
    equal(read_rollouts(tmp_path), rows)


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ([None, 1, 2], "NoneType, int"),
        ([1, 2.0, 3], "float, int"),
        ([[1, "a"], [], []], "list"),
        ([[[1]], [[2]], [[3]]], "list"),
        ([torch.zeros(1), torch.zeros(1).double(), torch.zeros(1)], "Tensor"),
        ([{"a": 1}, {"b": 1}, {"a": 1}], "dict"),
        ([object()] * 3, "object"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(tmp_path, column, found):
    rows = text().with_columns(extra={"odd": column})
    with pytest.raises(UserError, match=rf"column 'extra.odd': cannot be kept: found {found}; expected a tensor, or for"):
        write_rollouts(tmp_path, rows, ["a", "b", "c"], ["x"] * 3)
    with pytest.raises(UserError, match=r"column 'extra.odd'"):
        pack(Batch(rows))
    with pytest.raises(UserError, match="bfloat16"):
        write_rollouts(tmp_path, text().with_columns(extra={"b": torch.zeros(3).bfloat16()}), ["a"] * 3, ["x"] * 3)


def batch(step: int, version: int) -> Batch:
    rows = text(version)
    return Batch(
        rows.with_columns(actions=[a + 10 * step for a in rows.actions]), {"outcome": NOISE(3) + step}, {"reward": 0.5}
    )


@pytest.mark.parametrize("kind", [RolloutBuffer, RolloutRing])
def test_a_buffer_survives_a_checkpoint_whole(tmp_path, kind):
    """Through the real checkpoint: what is not kept is made anew by other weights, so a buffer that is loaded must make nothing."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    one = kind(batch, 2, 2 if kind is RolloutBuffer else 1)
    one.batch(1)
    one(1, None, {})
    checkpoint.save(tmp_path, 1, {"": (model, optimizer)}, {"hooks": [one.state_dict()]})
    two = kind(None, 2, 2 if kind is RolloutBuffer else 1)
    two.load_state_dict(checkpoint.load(tmp_path, {"": (model, optimizer)})["hooks"][0])
    assert two.used == one.used and len(two.kept) == len(one.kept) == 2
    for a, b in zip(one.kept, two.kept, strict=True):
        equal(a.rows, b.rows)
        assert same(a.columns, b.columns) and a.metrics == b.metrics


def test_a_ring_mixes_the_columns_with_their_rows():
    ring = RolloutRing(batch, 2, 1)
    found = ring.batch(1)
    assert found.columns["outcome"].tolist() == pytest.approx((NOISE(3)[:2] + 2).tolist() + (NOISE(3)[2:] + 1).tolist())
    assert found.rows.prompt_B.tolist() == [0, 0, 1]


def test_a_packed_batch_is_json_and_tensors():
    packed = pack(batch(1, 0))
    plain = {name: value for name, value in packed.items() if not isinstance(value, torch.Tensor)}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    equal(unpack(packed).rows, batch(1, 0).rows)


def test_joined_rows_keep_a_column_that_is_one_tensor():
    rows = Trajectory(
        [[1], [2]], [torch.tensor([1]), torch.tensor([2])], torch.arange(2), extra={"mark": torch.tensor([[1.0], [2.0]])}
    )
    joined = Trajectory.concat([rows, rows.rows([1])])
    assert torch.equal(joined.extra["mark"], torch.tensor([[1.0], [2.0], [2.0]]))
