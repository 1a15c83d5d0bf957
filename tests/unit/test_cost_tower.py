"""Models that see: parameters as transformers counts them, what a forward pass keeps, and what `plan` says of a node with pictures."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from opd_steps.graph.cost.kept import kept
from opd_steps.graph.cost.known import of_path, published
from opd_steps.graph.cost.memory import fit
from opd_steps.graph.cost.shape import seeing
from opd_steps.models.sight import Sight
from tests.unit.test_cost_fits import built
from tests.unit.test_cost_kept import MODES, bytes_kept

NAMES = [name for name, config in published().items() if config["model_type"] == "qwen3_vl"]
TEXT = {"hidden_size": 96, "intermediate_size": 200, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 24}
EYES = {
    "depth": 4,
    "hidden_size": 88,
    "intermediate_size": 210,
    "num_heads": 2,
    "patch_size": 4,
    "num_position_embeddings": 100,
}
SMALL = {
    "model_type": "qwen3_vl",
    "text_config": TEXT | {"num_hidden_layers": 5, "vocab_size": 64, "max_position_embeddings": 128},
    "vision_config": EYES | {"out_hidden_size": 96, "deepstack_visual_indexes": [1]},
}
ROWS, GRID = 3, (1, 10, 14)  # patches of a picture: 35 tokens


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_transformers_model(name):
    found = of_path(name, family="vl")
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**published()[name]))
    assert sum(p.numel() for p in model.model.visual.parameters()) == found.tower.parameters
    assert sum(p.numel() for p in model.parameters()) == found.parameters
    blocks = sum(p.numel() for n, p in model.model.visual.named_parameters() if "blocks" in n and p.ndim > 1)
    mergers = sum(p.numel() for n, p in model.model.visual.named_parameters() if "merger" in n and p.ndim > 1)
    assert found.tower.linear == blocks + mergers // found.tower.merged


def test_the_total_is_the_published_one():
    assert round(of_path("Qwen/Qwen3-VL-8B-Instruct", family="vl").parameters / 1e7) == 877


def measured(mode: str, recompute: bool) -> int:
    """Of rows of a picture each, and nothing else."""
    config = AutoConfig.for_model(**SMALL)
    config.image_token_id = 3
    model = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, MODES[mode][0])).eval()
    patches = GRID[1] * GRID[2]
    how = {"pixel_values": torch.randn(ROWS * patches, 96), "image_grid_thw": torch.tensor([GRID] * ROWS)}
    how |= {"position_ids": torch.arange(patches // 4).expand(3, ROWS, -1)}
    return bytes_kept(model, mode, recompute, torch.full((ROWS, patches // 4), 3), **how)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_what_a_forward_pass_keeps(mode, recompute):
    shape, patches = seeing(SMALL), GRID[1] * GRID[2]
    text, _ = kept(shape, ROWS, patches // 4, mode, recompute)
    eyes, _ = shape.tower.kept(ROWS * patches, mode, recompute)
    assert text + eyes == pytest.approx(measured(mode, recompute), rel=0.1)


def test_a_bound_on_pixels_is_one_on_tokens(tmp_path):
    shape = of_path("Qwen/Qwen3-VL-8B-Instruct", family="vl")
    assert shape.tower.tokens(1024 * 1024, 0) == 1024 and shape.tower.tokens(0, 8192 * 2048) == 8192
    sight = Sight(16, 2, 2, [0.5] * 3, [0.5] * 3, (1, 1 << 62), (1, 1 << 62)).within(1024 * 1024, 8192 * 2048)
    _, h, w = sight.grid((1, 3, 3000, 4000))
    assert 900 < h * w / 4 <= 1024
    t, h, w = sight.grid((400, 3, 720, 1280))
    assert 6000 < t * h * w / 4 <= 8192


def test_pictures_count_in_memory_and_time(tmp_path):
    def asked(**family):
        eyes = {"kind": "model", "path": "Qwen/Qwen3-VL-8B-Instruct", "family": {"name": "vl", **family}}
        seen = {"kind": "data", "task": {"name": "gallery", "path": "mine.jsonl"}, "verifier": "exact"}
        node = {"kind": "opd", "student": "eyes", "teacher": "eyes", "data": "seen", "dtype": "bfloat16", "recompute": True}
        node |= {"micro_batch": 2, "engine": {"batch": 8}, "resources": {"gpu": 8, "gpu_mem_gb": 80}}
        (x,) = [n for n in built(tmp_path, seen=seen, eyes=eyes, x=node).nodes.values() if n.name == "x"]
        return fit(x)

    few, many, unsaid = asked(image_pixels=256 * 1024), asked(image_pixels=4096 * 1024), asked()
    assert few.total < unsaid.total < many.total and few.seconds < unsaid.seconds < many.seconds
    assert few.parts["weights"] == pytest.approx(8.767e9 * 4 / 8, rel=0.01)
