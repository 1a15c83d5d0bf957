"""Bytes that a flow's forward pass keeps for the backward one, by saved_tensors_hooks; as a process of several too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import nn

from opd_steps.models.numerics import computing
from opd_steps.process import ranks
from opd_steps.process.launch import failing_together
from opd_steps.tune.lora import Lora

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
DEEP = {"sample_size": 32, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 4, "attention_head_dim": 32}
DEEP |= {"num_attention_heads": 4, "joint_attention_dim": 64, "caption_projection_dim": 128, "pooled_projection_dim": 32}
DEEP |= {"pos_embed_max_size": 16, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm"}
HOW = (5, 32, 11)  # images, side of a latent, tokens of a prompt; no product of these is a weight's
CASES = [  # of several processes: dtype of weights, of products, recompute, targets
    ("bfloat16", "bfloat16", False, ATTENTION),
    ("bfloat16", "bfloat16", True, ATTENTION),
    ("float32", "bfloat16", False, None),
    ("float32", "bfloat16", True, None),
    ("float32", "float32", False, ATTENTION),
]


def prepared(model: nn.Module, weights: str, recompute: bool, rank: int, targets: list[str] | None) -> nn.Module:
    """`targets` of adapters; None: all is trained."""
    model = model.to(getattr(torch, weights)).eval()
    if targets is not None:
        Lora(r=rank, targets=targets).adapt(model.requires_grad_(False), 0)
    if recompute:
        model.enable_gradient_checkpointing()
    return model


def bytes_kept(model: nn.Module, dtype: torch.dtype, images: int, side: int, told: int) -> int:
    """Of all storages that are saved, without weights and what they become for a product; inputs of blocks that are computed again are
    saved as such."""
    sharded = ranks.is_sharded(model)
    weights = [p.detach() for p in model.parameters() if p.ndim == 2]
    shapes = {shape for w in weights for shape in (tuple(w.shape), tuple(w.shape)[::-1])}
    own = {t.untyped_storage().data_ptr() for t in (*(() if sharded else model.parameters()), *model.buffers())}
    found: dict[int, torch.Tensor] = {}

    def is_weight(tensor: torch.Tensor) -> bool:
        """Of several processes by its shape: its numbers are gone when it is let go of."""
        flat = tensor[0] if tensor.ndim == 3 and tensor.stride(0) == 0 else tensor
        if tuple(flat.shape) not in shapes:
            return False
        return sharded or any(
            flat.shape == w.shape and flat.equal(w.to(flat.dtype)) for w in [*weights, *(w.T for w in weights)]
        )

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not sharded or not is_weight(tensor):
            found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    held, c = dtype if sharded else model.dtype, model.config
    x_NCHW, sigma_N = torch.randn(images, c.in_channels, side, side, dtype=held), torch.rand(images)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), computing(model, dtype):
        if isinstance(model, SD3Transformer2DModel):
            tokens = torch.randn(images, told, c.joint_attention_dim, dtype=held)
            out = model(x_NCHW, tokens, torch.randn(images, c.pooled_projection_dim, dtype=held), sigma_N * 1000)
        else:
            out = model(list(x_NCHW[:, :, None]), sigma_N, list(torch.randn(images, told, c.cap_feat_dim, dtype=held)))
    mine = {at: t for at, t in found.items() if at not in own and (sharded or not is_weight(t))}
    del out
    return sum(t.untyped_storage().nbytes() for t in mine.values())


def main(file: str) -> None:
    found = []
    for weights, dtype, recompute, targets in CASES:
        model = prepared(SD3Transformer2DModel(**DEEP), weights, recompute, 8, targets)
        found.append(bytes_kept(ranks.shard(model, getattr(torch, dtype)), getattr(torch, dtype), *HOW))
    if ranks.first():
        Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    with failing_together():
        ranks.join()
        main(*sys.argv[1:])
        ranks.leave()
