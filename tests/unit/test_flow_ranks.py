"""Flows trained by several processes: as one process does it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from opd_steps.process.launch import launch
from tests.unit import flow_toys


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    flow_toys.make(folder)
    assert launch(2, "tests.unit.flow_toys", [str(folder)]) == 0
    return folder


@pytest.mark.parametrize("how", flow_toys.NUMERICS)
def test_two_processes_sample_and_learn_as_one(two, tmp_path, how):
    one, both = flow_toys.found(two, how, tmp_path), load_file(two / f"{how}.safetensors")
    rough = "bfloat16" in how  # gathered in bf16, where one process casts each product's factors
    for name in ("actions", "logp"):
        torch.testing.assert_close(both.pop(name), one.pop(name), rtol=1e-2 if rough else 1e-4, atol=0.3 if rough else 1e-4)
    assert both.keys() == one.keys() and any(name.startswith("average") for name in one)
    for name, value in one.items():
        assert (both[name] - value).norm() <= (0.1 if rough else 1e-4) * value.norm() + 1e-8, name
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    for file in files:
        assert (two / "published" / how / file.relative_to(tmp_path)).read_bytes() == file.read_bytes(), file
