"""OpenVLA (arXiv 2406.09246) as a transformers model whose weights have the published checkpoints' names: no code of a checkpoint is run."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

TOWERS = {  # by timm's names: of ViT-L/14 by DINOv2 with registers, and of SigLIP's So400m/14
    "vit_large_patch14_reg4_dinov2.lvd142m": {
        "width": 1024,
        "depth": 24,
        "heads": 16,
        "inner": 4096,
        "patch": 14,
        "registers": 4,
    },
    "vit_so400m_patch14_siglip_224": {"width": 1152, "depth": 27, "heads": 16, "inner": 4304, "patch": 14, "registers": 0},
}
PARTS = ("featurizer", "fused_featurizer")  # names of the two towers


class OpenVLAConfig(PreTrainedConfig):
    """towers   {width, depth, heads, inner, patch, registers} of each tower; None: those that the timm_model_ids name
    pad_to_multiple_of   words behind the last action token, which pad the vocabulary
    norm_stats   by data set, action: {q01, q99, mask} of each dimension of its motions
    """

    model_type = "openvla"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012

    timm_model_ids: list | tuple = tuple(TOWERS)
    image_sizes: list | tuple = (224, 224)
    towers: list | None = None
    text_config: dict | PreTrainedConfig | None = None
    pad_to_multiple_of: int = 64
    n_action_bins: int = 256
    norm_stats: dict | None = None

    def __post_init__(self, **kwargs):
        text = self.text_config or {}
        if isinstance(text, dict):
            self.text_config = AutoConfig.for_model(**{"model_type": "llama"} | text)
        super().__post_init__(**kwargs)

    @property
    def shapes(self) -> list[dict]:
        """Of the towers. Raises ValueError for others than OpenVLA's."""
        if len(found := self.towers or [TOWERS.get(name) for name in self.timm_model_ids]) != len(PARTS) or None in found:
            raise ValueError(f"expected the towers {' and '.join(TOWERS)}, found {', '.join(self.timm_model_ids)}")
        return found


class _Scale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_factor


class OpenVLABlock(nn.Module):
    """A block of timm's VisionTransformer; `scaled`: with DINOv2's factors behind attention and MLP."""

    def __init__(self, width: int, heads: int, inner: int, scaled: bool):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})
        self.ls1, self.ls2 = (_Scale(width) if scaled else nn.Identity() for _ in range(2))

    def forward(self, x_NPD: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x_NPD)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heard_NPD = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x_NPD = x_NPD + self.ls1(self.attn["proj"](heard_NPD))
        return x_NPD + self.ls2(self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(x_NPD)))))


class OpenVLATower(nn.Module):
    """Patches as they are behind the last block but one, [N, P, width]; what stands behind that is left out.

    Positions are added to patches alone: class token and registers (of DINOv2) have none.
    """

    def __init__(self, side: int, width: int, depth: int, heads: int, inner: int, patch: int, registers: int):
        super().__init__()
        self.patches = (side // patch) ** 2
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.pos_embed = nn.Parameter(torch.zeros(1, self.patches, width))
        if registers:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.reg_token = nn.Parameter(torch.zeros(1, registers, width))
        self.registers = registers
        self.blocks = nn.ModuleList(OpenVLABlock(width, heads, inner, registers > 0) for _ in range(depth - 1))

    def forward(self, image_NCHW: Tensor) -> Tensor:
        x_NPD = self.patch_embed["proj"](image_NCHW).flatten(2).transpose(1, 2) + self.pos_embed
        if self.registers:
            first = (token.expand(len(x_NPD), -1, -1) for token in (self.cls_token, self.reg_token))
            x_NPD = torch.cat([*first, x_NPD], 1)
        for block in self.blocks:
            x_NPD = block(x_NPD)
        return x_NPD[:, -self.patches :]


class OpenVLAForActionPrediction(PreTrainedModel):
    """Two towers, a projector and a language model, which reads the patches behind the first token of a text."""

    config_class = OpenVLAConfig
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer", "OpenVLABlock"]  # noqa: RUF012
    _supports_sdpa = True

    def __init__(self, config: OpenVLAConfig):
        super().__init__(config)
        shapes, sizes = config.shapes, config.image_sizes
        towers = {name: OpenVLATower(side, **shape) for name, side, shape in zip(PARTS, sizes, shapes, strict=True)}
        self.vision_backbone = nn.ModuleDict(towers)
        seen, wide = sum(shape["width"] for shape in shapes), config.text_config.hidden_size
        layers = {"fc1": nn.Linear(seen, 4 * seen), "fc2": nn.Linear(4 * seen, wide), "fc3": nn.Linear(wide, wide)}
        self.projector = nn.ModuleDict(layers)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        last = [rf"\.{name}\.blocks\.{shape['depth'] - 1}\." for name, shape in zip(PARTS, shapes, strict=True)]
        self._keys_to_ignore_on_load_unexpected = [*last, r"featurizer\.(norm|attn_pool)\."]  # read by nobody
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def get_decoder(self) -> nn.Module:
        return self.language_model.model

    @property
    def patches(self) -> int:
        return self.vision_backbone[PARTS[0]].patches

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        silent: Tensor | None = None,
        there: Tensor | None = None,
        use_cache: bool = False,
    ) -> BaseModelOutput:
        """Last hidden states of the tokens [B, L, D], without those of the patches.

        pixel_values  [B, 6, S, S], what each tower sees
        silent        [B, L] bool, whose embedding is zero: actions that are asked for all at once
        there         [B, L] bool, tokens that are no padding: each of them sees all others (OpenVLA-OFT, arXiv 2502.19645); None: what
                      stands before it
        """
        towers = zip(self.vision_backbone.values(), pixel_values.split(3, 1), strict=True)
        patch_BPD = torch.cat([tower(part) for tower, part in towers], -1)
        patch_BPD = self.projector["fc2"](gelu(self.projector["fc1"](patch_BPD)))
        patch_BPD = self.projector["fc3"](gelu(patch_BPD))
        text_BLD = self.get_input_embeddings()(input_ids)
        if silent is not None:
            text_BLD = text_BLD.masked_fill(silent[..., None], 0)
        row_BLD = torch.cat([text_BLD[:, :1], patch_BPD.to(text_BLD.dtype), text_BLD[:, 1:]], 1)
        mask = None
        if there is not None:
            seen_BL = torch.cat([there[:, :1], there.new_ones(patch_BPD.shape[:2]), there[:, 1:]], 1)
            mask = seen_BL[:, None, None].expand(-1, 1, row_BLD.shape[1], -1)
        read = self.get_decoder()(inputs_embeds=row_BLD, attention_mask=mask, use_cache=use_cache).last_hidden_state
        return BaseModelOutput(torch.cat([read[:, :1], read[:, 1 + patch_BPD.shape[1] :]], 1))


AutoConfig.register(OpenVLAConfig.model_type, OpenVLAConfig)
AutoModelForImageTextToText.register(OpenVLAConfig, OpenVLAForActionPrediction)
