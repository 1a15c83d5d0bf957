"""Robots' policies trained by several processes: as one process does it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from opd_steps.process.launch import launch
from tests.unit import vla_toys


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robots")
    vla_toys.make(folder)
    assert launch(2, "tests.unit.vla_toys", [str(folder)]) == 0
    return folder


@pytest.mark.parametrize("how", vla_toys.NUMERICS)
def test_two_processes_play_and_learn_as_one(two, tmp_path, how):
    one, both = vla_toys.found(two, how, tmp_path), load_file(two / f"{how}.safetensors")
    rough = "bfloat16" in how  # gathered in bf16, where one process casts each product's factors
    for name in ("actions", "lengths", "reward"):
        assert both.pop(name).equal(one.pop(name)), name
    torch.testing.assert_close(both.pop("logp"), one.pop("logp"), rtol=1e-2 if rough else 1e-4, atol=0.1 if rough else 1e-4)
    seen = sorted(name for name, value in one.items() if value.norm() > 0)
    assert seen and set(seen) <= both.keys()
    parts = [seen] if rough else [[name] for name in seen]  # of one weight of a model so narrow, bf16 rounds a tenth away
    for names in parts:
        mine, theirs = (torch.cat([made[name].flatten() for name in names]) for made in (one, both))
        assert (theirs - mine).norm() <= (0.1 if rough else 1e-4) * mine.norm() + 1e-7, names
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    for file in files:
        assert (two / "published" / how / file.relative_to(tmp_path)).read_bytes() == file.read_bytes(), file
