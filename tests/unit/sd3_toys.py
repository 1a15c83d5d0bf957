"""Stable Diffusion 3 as it lies on the hub, a folder with all parts, and a judge of images: each as small as it can be."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>", "cat</w>"]


def clip_tokenizer():
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, merges=[], model_max_length=77)


def write_pipeline(folder: Path) -> Path:
    """All parts of the pipeline, small."""
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, projection_dim=8
    )
    t5 = T5Config(vocab_size=16, d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    vae = {
        "block_out_channels": (4,),
        "norm_num_groups": 2,
        "latent_channels": 4,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    pipe = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(8, 2, 4, 2, 8, 2, 24, 16, 16, 4, 4),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(in_channels=3, out_channels=3, scaling_factor=1.5, shift_factor=0.06, **vae),
        text_encoder=CLIPTextModelWithProjection(text),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=T5EncoderModel(t5),
        tokenizer_3=T5Tokenizer(),
    )
    pipe.save_pretrained(folder)
    return folder


def write_judge(folder: Path) -> Path:
    """A model of CLIP's kind that reads the same words."""
    torch.manual_seed(0)
    text = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    CLIPModel(
        CLIPConfig(text_config=text | {"num_attention_heads": 2, "eos_token_id": 1}, vision_config=vision, projection_dim=8)
    ).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return folder
