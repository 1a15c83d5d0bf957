"""Checkpoints in OpenVLA's form, as they lie on the hub: with the parts that nobody reads, and the statistics of motions."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from opd_steps.models.folder import save_model
from opd_steps.models.openvla import OpenVLAConfig, OpenVLAForActionPrediction
from opd_steps.models.tokenizers import byte_tokenizer

TOWERS = [
    {"width": 16, "depth": 3, "heads": 2, "inner": 32, "patch": 4, "registers": 2},
    {"width": 24, "depth": 2, "heads": 2, "inner": 32, "patch": 4, "registers": 0},
]
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
TINY = {"towers": TOWERS, "image_sizes": [8, 8], "text_config": TEXT | {"initializer_range": 0.3}}
MOTIONS = {"q01": [-1.0, *[-0.5] * 5, 0.0], "q99": [1.0, *[0.25] * 5, 1.0], "mask": [True] * 6 + [False]}


def write_openvla(folder: Path, statistics: str = "moves", bins: int = 8) -> Path:
    torch.manual_seed(0)
    vocab = len(tokenizer := byte_tokenizer()) + bins + 3
    config = OpenVLAConfig(
        **TINY | {"text_config": TINY["text_config"] | {"vocab_size": vocab}},
        n_action_bins=bins,
        pad_to_multiple_of=3,
        norm_stats={"others": {"action": MOTIONS | {"q01": [0.0] * 7}}},
    )
    save_model(OpenVLAForActionPrediction(config), tokenizer, folder)
    weights = load_file(folder / "model.safetensors")
    for part, shape in zip(("featurizer", "fused_featurizer"), TOWERS, strict=True):
        for name in (f"blocks.{shape['depth'] - 1}.attn.qkv.weight", "norm.weight", "attn_pool.q.weight"):
            weights[f"vision_backbone.{part}.{name}"] = torch.ones(shape["width"])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "dataset_statistics.json").write_text(json.dumps({statistics: {"action": MOTIONS}}))
    scales = {"means": [[0.1, 0.2, 0.3], [0.5] * 3], "stds": [[0.5, 0.25, 0.2], [0.5] * 3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(scales))
    return folder
