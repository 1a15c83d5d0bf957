"""Shapes of flows: parameters as diffusers and peft count them, and the bytes that a forward pass keeps against saved_tensors_hooks."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from opd_steps.graph.cost import sd3, z_image
from opd_steps.graph.cost.around import JUDGES, PARTS, _numbers, _parts
from opd_steps.graph.cost.flow import Flow
from opd_steps.graph.cost.known import of_path, published
from opd_steps.process.launch import launch
from opd_steps.tune.lora import Lora
from tests.unit.flow_kept import ATTENTION, CASES, DEEP, HOW, bytes_kept, prepared
from tests.unit.sd3_toys import write_pipeline
from tests.unit.test_cost_kept import MODES

MEDIUM, TURBO = "stabilityai/stable-diffusion-3.5-medium", "Tongyi-MAI/Z-Image-Turbo"
TARGETS = {"sd3": ATTENTION, "z_image": [*ATTENTION[:4], "w1", "w2", "w3"]}
RANK, IMAGES = 8, 2
SMALL = {  # family, sizes, side of a latent, tokens of a prompt; no product of these is a weight's
    "plain": ("sd3", {"num_attention_heads": 3, "attention_head_dim": 20, "num_layers": 2}, 16, 9),
    "dual": (
        "sd3",
        {"num_attention_heads": 5, "attention_head_dim": 20, "num_layers": 4, "dual_attention_layers": (0, 1)},
        24,
        20,
    ),
    "wide": (
        "sd3",
        {"num_attention_heads": 4, "attention_head_dim": 32, "num_layers": 5, "dual_attention_layers": (0,)},
        20,
        40,
    ),
    "narrow": ("z_image", {"n_heads": 3, "dim": 66, "n_layers": 4, "n_refiner_layers": 1, "axes_dims": (6, 6, 10)}, 16, 9),
    "deep": ("z_image", {"n_heads": 5, "dim": 130, "n_layers": 12, "n_refiner_layers": 2, "axes_dims": (8, 8, 10)}, 24, 40),
    "broad": ("z_image", {"n_heads": 5, "dim": 130, "n_layers": 3, "n_refiner_layers": 2, "axes_dims": (8, 8, 10)}, 24, 40),
}


def made(family: str, config: dict) -> torch.nn.Module:
    if family == "z_image":
        return ZImageTransformer2DModel(**{"in_channels": 4, "cap_feat_dim": 40, "axes_lens": (512, 64, 64), **config})
    width = config["num_attention_heads"] * config["attention_head_dim"]
    less = {
        "in_channels": 4,
        "out_channels": 4,
        "joint_attention_dim": 40,
        "pooled_projection_dim": 24,
        "pos_embed_max_size": 32,
    }
    return SD3Transformer2DModel(**{**less, "caption_projection_dim": width, "sample_size": 8, **config})


def flow_of(family: str, model) -> Flow:
    return {"sd3": sd3.sd3_of, "z_image": z_image.z_image_of}[family](dict(model.config))


def numbers(model) -> int:
    return sum(p.numel() for p in model.parameters())


# ---- parameters


@pytest.mark.parametrize(("name", "family", "total"), [(MEDIUM, "sd3", 2_243_171_520), (TURBO, "z_image", 6_154_908_736)])
def test_parameters_of_published_flows(name, family, total):
    """The totals are those of their pages: 2.5 B with the table of positions, which is no parameter, and 6 B."""
    config = {k: v for k, v in published()[name].items() if k not in ("model_type", "around")}
    with torch.device("meta"):
        model = {"sd3": SD3Transformer2DModel, "z_image": ZImageTransformer2DModel}[family](**config)
    found = of_path(name, family=family)
    assert numbers(model) == found.parameters == total
    assert sum(b.numel() for b in model.buffers()) == found.buffers
    assert found.block == max(numbers(m) for m in model.modules() if type(m).__name__ in model._no_split_modules)
    assert found.numbers == model.config.in_channels * 128**2


@pytest.mark.parametrize(("name", "family"), [(MEDIUM, "sd3"), (TURBO, "z_image")])
def test_operations_of_published_flows(name, family):
    """At 512 pixels; all but the convolution that makes patches."""
    config, flow = published()[name], replace(of_path(name, family=family), side=64)
    with torch.device("meta"), FlopCounterMode(display=False) as counted, torch.no_grad():
        image = torch.empty(1, 16, 64, 64)
        if family == "sd3":
            model = SD3Transformer2DModel(**{k: v for k, v in config.items() if k not in ("model_type", "around")})
            model(image, torch.empty(1, flow.told, 4096), torch.empty(1, 2048), torch.empty(1))
        else:
            ZImageTransformer2DModel()(list(image[:, :, None]), torch.empty(1), [torch.empty(flow.told, 2560)])
    assert flow.operations(flow.told) == pytest.approx(counted.get_total_flops(), rel=0.001)


@pytest.mark.parametrize("normed", [None, "rms_norm"])
@pytest.mark.parametrize("case", SMALL)
def test_parameters_and_adapters_of_small_ones(case, normed):
    family, config, *_ = SMALL[case]
    model = made(family, config | ({"qk_norm": normed} if family == "sd3" else {}))
    found = flow_of(family, model)
    assert numbers(model) == found.parameters
    assert sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)) == found.linear
    for targets in (["to_q"], TARGETS[family], []):
        model = made(family, config)
        Lora(r=RANK, targets=targets).adapt(model.requires_grad_(False), 0)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trained == RANK * sum(a + b for a, b in found.adapted(targets)), targets


def test_what_a_config_leaves_out_is_as_diffusers_has_it():
    for model, defaults in ((SD3Transformer2DModel, sd3.DEFAULTS), (ZImageTransformer2DModel, z_image.DEFAULTS)):
        theirs = inspect.signature(model).parameters
        assert {name: theirs[name].default for name in defaults} == defaults
    assert "patch_size" in sd3.sd3_of({"patch_size": "two"}) and "dim" in z_image.z_image_of({"dim": 0})
    assert "layer_norm" in sd3.sd3_of({"qk_norm": "layer_norm"}) and "its config" in z_image.z_image_of({"siglip_feat_dim": 8})


def test_parameters_of_what_stands_around(tmp_path):
    clip = {"projection_dim": 768, "hidden_act": "quick_gelu"}
    large = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, **clip)
    huge = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
    )
    t5 = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
    blocks, vae = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}, {}
    vae = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16, **blocks}
    qwen = {k: v for k, v in published()["Qwen/Qwen3-4B"].items() if k != "model_type"}
    with torch.device("meta"):
        around = {
            "text_encoder": numbers(CLIPTextModelWithProjection(large)),
            "text_encoder_2": numbers(CLIPTextModelWithProjection(huge)),
            "text_encoder_3": numbers(T5EncoderModel(T5Config(vocab_size=32128, **t5))),
            "vae": numbers(AutoencoderKL(**vae, use_quant_conv=False, use_post_quant_conv=False)),
        }
        assert published()[MEDIUM]["around"] == around
        assert published()[TURBO]["around"] == {"text_encoder": numbers(Qwen3Model(Qwen3Config(**qwen))), "vae": around["vae"]}
        eyes = {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
        }
        words = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        pick = CLIPConfig(text_config=words, vision_config=eyes, projection_dim=1024)
        eyes = {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
        }
        words = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        clip = CLIPConfig(text_config=words, vision_config=eyes, projection_dim=768)
        assert tuple(JUDGES.values()) == (numbers(CLIPModel(pick)), numbers(CLIPModel(clip)))
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    save_file({"a": torch.zeros(3, 4)}, tmp_path / "model.fp16.safetensors")
    assert _numbers(tmp_path) == 17 and _numbers(tmp_path / "none") == 0


def test_a_pipeline_on_this_machine_is_read_where_it_lies(tmp_path):
    hub = write_pipeline(tmp_path)
    pipe, found = StableDiffusion3Pipeline.from_pretrained(hub), of_path(str(hub), family="sd3")
    assert found.parameters == numbers(pipe.transformer) and found.side == pipe.transformer.config.sample_size
    assert _parts(str(hub), None, "sd3") == sum(numbers(getattr(pipe, name)) for name in PARTS)
    assert of_path(str(tmp_path / "vae"), family="sd3").endswith("has no transformer/config.json")


# ---- what is kept


def measured(case: str, mode: str, recompute: bool, targets: list[str] | None) -> tuple[int, Flow]:
    """Bytes that are kept, and the model's shape."""
    family, config, side, told = SMALL[case]
    model = made(family, config | ({"qk_norm": "rms_norm"} if case in ("dual", "wide") else {}))
    flow = replace(flow_of(family, model), side=side)
    model = prepared(model, MODES[mode][0], recompute, RANK, targets)
    return bytes_kept(model, getattr(torch, MODES[mode][1]), IMAGES, side, told), flow


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["plain", "dual", "wide", "narrow", "broad"])
def test_what_a_forward_pass_keeps(case, mode):
    family, told = SMALL[case][0], SMALL[case][3]
    for targets in (None, TARGETS[family], []):
        there, flow = measured(case, mode, False, targets)
        found, _ = flow.kept(IMAGES, told, mode, rank=0 if targets is None else RANK, targets=targets)
        assert found == pytest.approx(there, rel=0.1), targets


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["dual", "wide", "deep"])
def test_what_blocks_that_are_computed_again_keep(case, mode):
    there, flow = measured(case, mode, True, None)
    found, again = flow.kept(IMAGES, SMALL[case][3], mode, recompute=True)
    assert found == pytest.approx(there, rel=0.1)
    whole, _ = flow.kept(IMAGES, SMALL[case][3], mode)
    assert again < whole < again * sum(count for count, _ in flow.blocks) * 1.1


def test_what_each_of_several_processes_keeps(tmp_path):
    """Blocks are given weights and adapters in the dtype that they compute in."""
    file = tmp_path / "kept.json"
    assert launch(2, "tests.unit.flow_kept", [str(file)]) == 0
    for (weights, dtype, recompute, targets), there in zip(CASES, json.loads(file.read_text()), strict=True):
        rank = RANK if targets else 0
        images, side, told = HOW
        flow = replace(sd3.sd3_of(DEEP), side=side)
        found, _ = flow.kept(images, told, dtype, recompute, rank, targets or (), gathered=True)
        assert found == pytest.approx(there, rel=0.05), (weights, dtype, recompute, targets)
