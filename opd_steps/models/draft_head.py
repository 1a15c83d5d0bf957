"""What drafts for a language model: one layer of the target's own kind, over the target's hidden states (EAGLE-3, arXiv 2503.01840)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from opd_steps.errors import UserError


class DraftHead(nn.Module):
    """Entry i is (embedding of token i + 1, what the target thought at token i); its output says what token i + 2 is. Behind the text, the
    drafter's own last output stands for the target's thought, and its own token for the next one.

    A layer of 2 D inputs, as EAGLE-3 has it, would be another class than the library's: here a linear map leads from 2 D to D first.
    """

    def __init__(self, target: PreTrainedModel, features: int):
        super().__init__()
        body, config = target.base_model, target.config
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            raise UserError(
                "target", "no drafter for a model that looks through a window: what was not taken would push out what was"
            )
        try:
            layer, norm, self.rotary = type(body.layers[0]), type(body.norm), type(body.rotary_emb)(config)
            self.layer = layer(config, 0)
            make_norm = lambda: norm(config.hidden_size, config.rms_norm_eps)
            self.norm_token, self.norm_thought, self.norm = make_norm(), make_norm(), make_norm()
        except (AttributeError, TypeError) as error:
            raise UserError("target", f"no drafter for a model of type {config.model_type}: {error}") from None
        width = config.hidden_size
        self.thought = nn.Linear(features * width, width, bias=False)
        self.mix = nn.Linear(2 * width, width, bias=False)
        head = target.get_output_embeddings().weight
        self.head = nn.Linear(width, len(head), bias=False)
        self.head.weight.data.copy_(head.detach())  # it begins as the target's

    @staticmethod
    def fresh_state(seen_BL: Tensor) -> State:
        """Of nothing that was read yet."""
        return State(DynamicCache(), seen_BL)

    def read(self, embed_BLD: Tensor, features_BLF: Tensor, seen_BL: Tensor, state: State) -> Tensor:
        """The output at the last of further entries, [B, D]. Those that are not `seen` stand left of the others."""
        state.seen_BL = torch.cat([state.seen_BL, seen_BL], 1)
        return self.run(embed_BLD, self.thought(features_BLF), *placed(state.seen_BL, embed_BLD.shape[1]), state.cache)[:, -1]

    def go_on(self, embed_BD: Tensor, out_BD: Tensor, state: State) -> Tensor:
        """The output behind one more token, of which the last output was the thought, [B, D]."""
        state.seen_BL = torch.cat([state.seen_BL, torch.ones_like(state.seen_BL[:, :1])], 1)
        return self.run(embed_BD[:, None], out_BD[:, None], *placed(state.seen_BL, 1), state.cache)[:, 0]

    def run(
        self, embed_BQD: Tensor, thought_BQD: Tensor, position_BQ: Tensor, sees_B1QK: Tensor, cache: DynamicCache
    ) -> Tensor:
        """The outputs at entries, of which each sees those of the K that it may: what the cache holds and the entries themselves."""
        x_BQD = self.mix(torch.cat([self.norm_token(embed_BQD), self.norm_thought(thought_BQD)], -1))
        return self.layer(
            x_BQD,
            attention_mask=mask(sees_B1QK, self.layer.self_attn.config, x_BQD.dtype),
            position_ids=position_BQ,
            past_key_values=cache,
            use_cache=True,
            position_embeddings=self.rotary(x_BQD, position_BQ),
        )


class State:
    """Keys and values of all entries, and which of these are of a text."""

    def __init__(self, cache: DynamicCache, seen_BL: Tensor):
        self.cache, self.seen_BL = cache, seen_BL

    @property
    def length(self) -> int:
        return self.seen_BL.shape[1]

    def back_to(self, length: int) -> None:
        """Forget what came behind so many entries."""
        self.cache.crop(length)
        self.seen_BL = self.seen_BL[:, :length]

    def select(self, keep_B: Tensor) -> None:
        self.cache.batch_select_indices(keep_B)
        self.seen_BL = self.seen_BL[keep_B]


def placed(seen_BL: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(positions of the last `count` entries [B, Q], which entries each of them sees [B, 1, Q, L]): those before it that are `seen`. An
    entry that is not sees itself, or it would be nan."""
    position_BQ = (seen_BL.long().cumsum(1) - 1).clamp(min=0)[:, -count:]
    at_L = torch.arange(seen_BL.shape[1], device=seen_BL.device)
    before_QL = at_L[-count:, None] >= at_L
    return position_BQ, ((before_QL & seen_BL[:, None]) | (at_L[-count:, None] == at_L))[:, None]


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """(tokens [B, L], which of them are none of padding [B, L])."""
    width = max(map(len, rows))
    tokens_BL = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    return tokens_BL, torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])


def mask(sees_B1QK: Tensor, config: PreTrainedConfig, dtype: torch.dtype) -> Tensor:
    """As attention takes it: what is seen, or what is to be added to its scores."""
    if config._attn_implementation == "sdpa":
        return sees_B1QK
    return torch.zeros_like(sees_B1QK, dtype=dtype).masked_fill(~sees_B1QK, torch.finfo(dtype).min)
