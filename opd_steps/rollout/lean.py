"""One token at a time through a Qwen3-, Qwen2- or Llama-type model, without what transformers spends around the arithmetic.

The operations are those of the model's own forward pass with sdpa attention, in the same order: logits are equal bit for bit in fp32 on a
CPU (tested), up to the rounding of products with large weights (products.py). But projections that read one input are one product, keys
and values are written in place, and no mask, wrapper or hook is made anew for every token. Any other model decodes with transformers' cache.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, rms_norm, scaled_dot_product_attention, silu
from transformers import DynamicCache, PreTrainedModel

from opd_steps.nouns.dist import head_logits, summable_head
from opd_steps.process.heap import kept_chunks
from opd_steps.rollout.products import Product, product

KNOWN = ("Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM")
STATIC_ROPE = ("default", "linear", "llama3", "yarn")  # angles that depend on the position alone
FUSED = 1 << 26  # parameters up to which projections are copied into one: above, a copy costs more than the calls it saves
ROOM = 256  # tokens by which a full cache grows
_told: set[str] = set()


def decoder_for(model: PreTrainedModel, new: int) -> Plain:
    """The leanest way to decode up to `new` tokens a row; when that is transformers' own, the log says why, once."""
    why = unknown(model)
    if not why:
        return Lean(model, new)
    if why not in _told:
        _told.add(why)
        print(f"decoding with transformers' cache: {why}", flush=True)
    return Plain(model)


def unknown(model: PreTrainedModel) -> str:
    """What keeps the model from the lean path, or ""."""
    config, name = model.config, type(model).__name__
    if name not in KNOWN:
        return f"the lean path knows {', '.join(KNOWN)}, this is {name}"
    parts = list(model.modules())
    odd = {
        f"{config._attn_implementation} attention": config._attn_implementation != "sdpa",
        "a sliding window": "sliding_attention" in (getattr(config, "layer_types", None) or ()),
        f"rope {config.rope_parameters['rope_type']}": config.rope_parameters["rope_type"] not in STATIC_ROPE,
        f"activation {config.hidden_act}": config.hidden_act != "silu",
        "layers that are no plain nn.Linear": any(isinstance(m, nn.Linear) and type(m) is not nn.Linear for m in parts),
        "adapters on its layers": any(hasattr(m, "base_layer") for m in parts),
        "hooks on its modules": any(m._forward_hooks or m._forward_pre_hooks for m in parts),
    }
    return ", ".join(f"{name} with {what}" for what, is_so in odd.items() if is_so)


class Plain:
    """Any causal model of transformers, with its own cache."""

    def __init__(self, model: PreTrainedModel):
        self.model, self.cache = model, DynamicCache(config=model.config)

    def __call__(self, ids_BP: Tensor, position_BP: Tensor, mask_BL: Tensor | None) -> Tensor:
        """Logits [B, V] behind the last of the new tokens `ids_BP`. `mask_BL`: which of all tokens so far count; None: all."""
        last = torch.tensor([-1], device=ids_BP.device)  # picked, not sliced: for a slice torch copies a frozen head once a row
        args = {"attention_mask": mask_BL, "position_ids": position_BP, "use_cache": True, "logits_to_keep": last}
        return self.model(input_ids=ids_BP, past_key_values=self.cache, **args).logits[:, -1]

    def select(self, keep: Tensor) -> None:
        """Go on with these rows alone; a row may be named more than once."""
        self.cache.batch_select_indices(keep)


class Lean(Plain):
    """Prompts through the model itself, every later token through its weights alone."""

    def __init__(self, model: PreTrainedModel, new: int):
        super().__init__(model)
        self.new, self.length, self.most = new, 0, 0
        self.store: list[Tensor] = []  # per layer [2, B, key-value heads, tokens, head size]
        fuse = sum(p.numel() for p in model.parameters()) <= FUSED
        self.layers = [_Layer(layer, fuse, new) for layer in model.model.layers]
        self.norm, self.embedding = _Norm(model.model.norm), model.get_input_embeddings().weight
        self.head = _head(model.get_output_embeddings(), new)

    def __call__(self, ids_BP: Tensor, position_BP: Tensor, mask_BL: Tensor | None) -> Tensor:
        if not self.length:
            args = {"attention_mask": mask_BL, "position_ids": position_BP, "use_cache": True}
            x_BPD = self.model.model(input_ids=ids_BP, past_key_values=self.cache, **args).last_hidden_state
            self._take_over(position_BP)
            return self.head(x_BPD[:, -1].contiguous())
        if self.length == self.store[0].shape[3]:
            self._grow()
        return self._step(ids_BP[:, 0], position_BP[:, 0], mask_BL)

    def select(self, keep: Tensor) -> None:
        for i, both in enumerate(self.store):  # layer by layer: never two copies of all
            self.store[i] = both[:, keep]

    def _take_over(self, position_BP: Tensor) -> None:
        """The prompts' keys and values into a cache with room, and the angles of all positions to come."""
        self.length = position_BP.shape[1]
        self.most = self.length + self.new
        self.store = [torch.stack([layer.keys, layer.values]) for layer in self.cache.layers]
        self.cache = None
        self._grow()
        x = self.store[0]
        position = torch.arange(self.length + self.new, device=x.device)[None]
        cos_1LD, sin_1LD = self.model.model.rotary_emb(x, position)
        half = sin_1LD.shape[-1] // 2  # rotate_half(x) * sin = roll(x) * (-sin, sin)
        self.cos_LD, self.sin_LD = cos_1LD[0], torch.cat([-sin_1LD[0, :, :half], sin_1LD[0, :, half:]], -1)

    def _grow(self) -> None:
        room = min(ROOM + self.length // 2, self.most - self.length)
        for i, x in enumerate(self.store):
            self.store[i] = torch.cat([x, x.new_empty(*x.shape[:3], room, x.shape[4])], 3)

    @kept_chunks()
    def _step(self, ids_B: Tensor, position_B: Tensor, mask_BL: Tensor | None) -> Tensor:
        t = self.length
        self.length = t + 1
        if mask_BL is None:  # all rows are at one position
            mask, cos, sin = None, self.cos_LD[t], self.sin_LD[t]
        else:
            mask, cos, sin = mask_BL[:, None, None].bool(), self.cos_LD[position_B][:, None], self.sin_LD[position_B][:, None]
        x_BD = embedding(ids_B, self.embedding)
        for layer, both in zip(self.layers, self.store, strict=True):
            x_BD = layer.step(x_BD, cos, sin, both, t, mask)
        return self.head(self.norm(x_BD))


class _Layer:
    """A decoder layer: its products and norms."""

    def __init__(self, layer: nn.Module, fuse: bool, new: int):
        attention, mlp = layer.self_attn, layer.mlp
        self.head, self.inner = attention.head_dim, mlp.gate_proj.out_features
        self.heads, self.kv = (p.out_features // self.head for p in (attention.q_proj, attention.k_proj))
        self.norm_in, self.norm_mlp = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self.qkv = _together([attention.q_proj, attention.k_proj, attention.v_proj], fuse, new)
        self.gate_up = _together([mlp.gate_proj, mlp.up_proj], fuse, new)
        self.out, self.down = (product(p.weight, p.bias, new) for p in (attention.o_proj, mlp.down_proj))
        self.norm_qk = None
        if hasattr(attention, "q_norm"):  # of every head, queries' and keys' at once
            self.norm_qk = _Norm(attention.q_norm)
            weights = attention.q_norm.weight.expand(self.heads, -1), attention.k_norm.weight.expand(self.kv, -1)
            self.norm_qk.weight = torch.cat(weights)

    def step(self, x_BD: Tensor, cos: Tensor, sin: Tensor, both: Tensor, t: int, mask: Tensor | None) -> Tensor:
        """Hidden states after the layer; the new token's key and value go to place `t` of `both`."""
        rows, split = len(x_BD), self.heads + self.kv
        qkv_BHD = self.qkv(self.norm_in(x_BD)).view(rows, split + self.kv, self.head)
        qk_BHD = qkv_BHD[:, :split]
        if self.norm_qk is not None:
            qk_BHD = self.norm_qk(qk_BHD)
        qk_BHD = qk_BHD * cos + qk_BHD.roll(self.head // 2, -1) * sin
        keys, values = both.narrow(3, 0, t + 1).unbind(0)
        keys[:, :, t], values[:, :, t] = qk_BHD[:, self.heads :], qkv_BHD[:, split:]
        shared = self.heads != self.kv
        if shared and mask is not None and x_BD.is_cuda:  # no CUDA kernel takes a mask and shared heads
            keys, values = (z.repeat_interleave(self.heads // self.kv, 1) for z in (keys, values))
            shared = False
        q = qk_BHD[:, : self.heads, None]
        if shared and not x_BD.is_cuda and x_BD.dtype is torch.bfloat16:  # heads of one key as its queries: a fifth of the time
            q, shared = q.reshape(rows, self.kv, -1, self.head), False
        seen = scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=shared)
        x_BD = x_BD + self.out(seen.reshape(rows, self.heads * self.head))
        gate_up = self.gate_up(self.norm_mlp(x_BD))
        gate = gate_up[:, : self.inner].contiguous()  # the kernel rounds otherwise where memory is not in one piece
        return x_BD + self.down(silu(gate) * gate_up[:, self.inner :])


class _Norm:
    """weight * (x / rms(x)), computed as transformers' modules do: in fp32, cast back, then times the weight."""

    def __init__(self, module: nn.Module):
        self.weight, self.eps = module.weight, module.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        size = (x.shape[-1],)
        if x.dtype is torch.float32 and self.weight.ndim == 1:
            return rms_norm(x, size, self.weight, self.eps)
        return rms_norm(x.float(), size, None, self.eps).to(x.dtype) * self.weight


def _together(parts: list[nn.Linear], fuse: bool, new: int) -> Product:
    """Projections of one input, side by side, in as few products as may be."""
    if not fuse:
        each = [product(p.weight, p.bias, new) for p in parts]
        return lambda x: torch.cat([of(x) for of in each], -1)
    bias = None if parts[0].bias is None else torch.cat([p.bias for p in parts])
    return product(torch.cat([p.weight for p in parts]), bias, new)


def _head(head: nn.Linear, new: int) -> Product:
    """As `head_logits`, whose casts are made once."""
    weight, bias = summable_head(head.weight, head.bias)
    if weight.is_cuda:
        return lambda x_BD: head_logits(x_BD, weight, bias)
    of = product(weight, bias, new)
    return lambda x_BD: of(x_BD.to(weight.dtype))
