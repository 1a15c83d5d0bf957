"""A checkpoint's own code, as GSAI-ML/LLaDA-8B-Instruct brings some: its names of fields and layers, a bidirectional Llama. Loaded by
transformers from the checkpoint's folder; imported alone to count its parameters.
"""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class LLaDAConfig(PretrainedConfig):
    model_type = "llada"

    def __init__(self, d_model=64, n_heads=2, n_layers=1, mlp_hidden_size=96, vocab_size=424, rope_theta=500000.0, **more):
        self.d_model, self.n_heads, self.n_layers, self.mlp_hidden_size = d_model, n_heads, n_layers, mlp_hidden_size
        self.rope_theta = rope_theta
        super().__init__(**{"tie_word_embeddings": False} | more)
        self.vocab_size = vocab_size


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return self.weight * (x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


class LLaDALlamaBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        d, m = config.d_model, config.mlp_hidden_size
        self.heads, self.theta = config.n_heads, config.rope_theta
        self.attn_norm, self.ff_norm = RMSNorm(d), RMSNorm(d)
        shapes = {"q_proj": (d, d), "k_proj": (d, d), "v_proj": (d, d), "attn_out": (d, d)}
        shapes |= {"ff_proj": (d, m), "up_proj": (d, m), "ff_out": (m, d)}
        for name, (inside, outside) in shapes.items():
            setattr(self, name, nn.Linear(inside, outside, bias=False))

    def rotated(self, x):
        half = x.shape[-1] // 2
        at = torch.arange(x.shape[-2], device=x.device)[:, None] / self.theta ** (torch.arange(half, device=x.device) / half)
        a, b = x.float().split(half, -1)
        return torch.cat([a * at.cos() - b * at.sin(), a * at.sin() + b * at.cos()], -1).to(x.dtype)

    def forward(self, x, there):
        h = self.attn_norm(x)
        q, k, v = (f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        seen = nn.functional.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v, attn_mask=there)
        x = x + self.attn_out(seen.transpose(1, 2).flatten(2))
        h = self.ff_norm(x)
        return x + self.ff_out(nn.functional.silu(self.ff_proj(h)) * self.up_proj(h))


class LLaDAModelLM(PreTrainedModel):
    config_class = LLaDAConfig
    base_model_prefix = "model"
    _no_split_modules = ("LLaDALlamaBlock",)

    def __init__(self, config):
        super().__init__(config)
        parts = {"wte": nn.Embedding(config.vocab_size, config.d_model), "ln_f": RMSNorm(config.d_model)}
        parts["blocks"] = nn.ModuleList([LLaDALlamaBlock(config) for _ in range(config.n_layers)])
        parts["ff_out"] = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.model = nn.ModuleDict({"transformer": nn.ModuleDict(parts)})
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(0, 0.05)

    def get_input_embeddings(self):
        return self.model["transformer"]["wte"]

    def get_output_embeddings(self):
        return self.model["transformer"]["ff_out"]

    def forward(self, input_ids, attention_mask=None, **more):
        parts = self.model["transformer"]
        x = parts["wte"](input_ids)
        there = None if attention_mask is None else attention_mask.bool()[:, None, None]
        for block in parts["blocks"]:
            x = block(x, there)
        return CausalLMOutput(logits=parts["ff_out"](parts["ln_f"](x)))
