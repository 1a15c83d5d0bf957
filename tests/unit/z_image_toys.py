"""Z-Image as it lies on the hub, a folder with all parts, and what sees images for it: each as small as it can be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from opd_steps.models.families.vl import VL
from opd_steps.models.folder import MODEL
from opd_steps.models.tokenizers import byte_tokenizer
from tests.unit.test_vl import TINY as SEEING

PLAIN = {"use_quant_conv": False, "use_post_quant_conv": False}
SHAPE = {"in_channels": 4, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 16}
VAE = {"block_out_channels": (4,), "norm_num_groups": 2, "latent_channels": 4} | PLAIN


def write_pipeline(folder: Path) -> Path:
    """All parts of the pipeline, small."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8}
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(in_channels=3, out_channels=3, scaling_factor=1.5, shift_factor=0.06, **VAE),
        text_encoder=Qwen3Model(Qwen3Config(vocab_size=len(tokenizer), num_attention_heads=2, num_key_value_heads=1, **text)),
        tokenizer=tokenizer,
        transformer=ZImageTransformer2DModel(**SHAPE, axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64]),
    ).save_pretrained(folder)
    return folder


def write_eyes(folder: Path, **text) -> Path:
    """A model of Qwen3-VL's kind, as wide as the text encoder."""
    config = SEEING | {"text_config": SEEING["text_config"] | text}
    config["vision_config"] = SEEING["vision_config"] | {"out_hidden_size": config["text_config"]["hidden_size"]}
    VL().make(SimpleNamespace(stage=folder, seed=0, options={"path": None, "revision": None, "config": config}))
    return folder / MODEL
