"""Models that see, trained by several processes and by adapters: as one process does it, in the form that transformers and peft read."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from opd_steps.process.launch import launch
from tests.unit import sight_toys
from tests.unit.test_vl import mixed, policy


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes")
    sight_toys.make(folder / "node")
    assert launch(2, "tests.unit.sight_toys", [str(folder)]) == 0
    return folder


@pytest.mark.parametrize("how", sight_toys.NUMERICS)
def test_two_processes_sample_and_learn_as_one(two, tmp_path, how):
    one, both = sight_toys.found(two / "node", how, tmp_path), load_file(two / f"{how}.safetensors")
    assert both.pop("actions").equal(one.pop("actions")) and both.keys() == one.keys()
    torch.testing.assert_close(both.pop("logp"), one.pop("logp"), atol=2e-5, rtol=0)
    assert any("visual" in name for name in one) and any("language_model" in name for name in one)
    for name, value in one.items():
        assert (both[name] - value).norm() <= 1e-5 * value.norm() + 1e-8, name
    for file in [p for p in tmp_path.rglob("*") if p.is_file()]:
        assert (two / how / file.relative_to(tmp_path)).read_bytes() == file.read_bytes(), file


def test_an_adapter_is_read_by_peft_and_merged_on_demand(two, tmp_path):
    sight_toys.found(two / "node", "lora", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "base.json"]
    targets = json.loads((tmp_path / "adapter/adapter_config.json").read_text())["target_modules"]
    assert {"q_proj", "down_proj", "qkv", "linear_fc1"} <= set(targets) and "lm_head" not in targets
    library = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(two / "node/model"), tmp_path / "adapter")
    model = policy(two / "node")
    rows = model.rollout(mixed(2), range(2), range(2))
    expected = policy(two / "node")
    expected.model = library.merge_and_unload()
    from opd_steps.models.adapters import merge_adapter

    merge_adapter(model.model, tmp_path / "adapter")
    said = lambda p: p.dist(rows).chunk(0, len(rows.action_N)).logp_NV
    with torch.no_grad():
        torch.testing.assert_close(said(model), said(expected), atol=1e-5, rtol=0)
