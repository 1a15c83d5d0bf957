"""OpenVLA in the plan: parameters as the model has them, what a forward pass keeps, and what is said of a node that acts."""

from __future__ import annotations

import pytest
import torch

from opd_steps.graph.cost.eyes import Eyes, telling
from opd_steps.graph.cost.kept import kept
from opd_steps.graph.cost.known import of_path
from opd_steps.graph.cost.memory import fit
from opd_steps.models.openvla import OpenVLAConfig, OpenVLAForActionPrediction
from tests.unit.test_cost_fits import built
from tests.unit.test_cost_kept import MODES, bytes_kept

TEXT = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 6}
TOWERS = [
    {"width": 64, "depth": 5, "heads": 4, "inner": 160, "patch": 4, "registers": 2},
    {"width": 72, "depth": 4, "heads": 4, "inner": 210, "patch": 4, "registers": 0},
]
SMALL = {"towers": TOWERS, "image_sizes": [16, 16], "text_config": TEXT | {"vocab_size": 64}}
ROWS, LENGTH, PATCHES = 3, 14, 16
POLICY = "RLinf/RLinf-OpenVLAOFT-LIBERO-130"


def model(config: dict) -> OpenVLAForActionPrediction:
    return OpenVLAForActionPrediction(OpenVLAConfig(**config, n_action_bins=8, pad_to_multiple_of=0))


@pytest.mark.parametrize("config", [{"text_config": {"vocab_size": 32064}}, SMALL])
def test_parameters_are_the_models(config):
    found = telling(config)
    with torch.device("meta"):
        made = model(config)
    assert sum(p.numel() for p in made.parameters()) == found.parameters
    assert sum(p.numel() for p in made.vision_backbone.parameters()) < found.tower.parameters
    linear = [m for name, m in made.named_modules() if isinstance(m, torch.nn.Linear) and not name.startswith("language_model")]
    assert sum(m.weight.numel() for m in linear) == found.tower.linear
    assert 5 * sum(m.in_features + m.out_features for m in linear) == found.tower.adapters(5)


def test_the_published_one_is_known():
    found = of_path(POLICY, family="openvla")
    assert isinstance(found.tower, Eyes) and found.parameters == 7_498_156_704 and found.tower.patches == 256


def measured(mode: str, recompute: bool) -> int:
    dtype, there = getattr(torch, MODES[mode][0]), torch.ones(ROWS, LENGTH, dtype=torch.bool)
    how = {"pixel_values": torch.randn(ROWS, 6, 16, 16).to(dtype), "there": there, "silent": there.cumsum(1) > 8}
    return bytes_kept(model(SMALL).to(dtype).eval(), mode, recompute, torch.randint(0, 60, (ROWS, LENGTH)), **how)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_what_a_forward_pass_keeps(mode, recompute):
    shape = telling(SMALL)
    text, _ = kept(shape, ROWS, LENGTH + PATCHES, mode, recompute)
    eyes, _ = shape.tower.kept(ROWS * PATCHES, mode, recompute)
    assert text + eyes == pytest.approx(measured(mode, recompute), rel=0.1)


def test_looks_count_in_memory_and_time(tmp_path):
    def asked(tokens: int, **options):
        arm = {"kind": "model", "path": POLICY, "family": {"name": "openvla"}}
        node = {"kind": "opd", "student": "arm", "teacher": "arm", "data": "table", "dtype": "bfloat16", "recompute": True}
        node |= {"micro_batch": 1, "prompts": 2, "sampling": {"n": 8, "max_new_tokens": tokens}, "engine": {"batch": 8}}
        node |= {"resources": {"gpu": 8, "gpu_mem_gb": 80}} | options
        data = {"kind": "data", "task": {"name": "libero"}}
        (x,) = [n for n in built(tmp_path, table=data, arm=arm, x=node).nodes.values() if n.name == "x"]
        return fit(x)

    short, long = asked(560), asked(1680)
    assert long.parts["activations"] == pytest.approx(3 * short.parts["activations"], rel=0.25)
    assert long.seconds == pytest.approx(3 * short.seconds, rel=0.01)
    assert long.parts["weights"] == pytest.approx(7.498e9 * 4 / 8, rel=0.01)
    light = asked(1680, tune={"name": "lora"}, weights="bfloat16")
    assert light.total < long.total
