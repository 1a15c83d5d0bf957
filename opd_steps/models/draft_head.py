"""What drafts for a language model: one layer of the target's own kind, over the target's hidden states (EAGLE-3, arXiv 2503.01840)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from opd_steps.errors import UserError


class DraftHead(nn.Module):
    """Entry i is (embedding of token i + 1, what the target thought at token i); its output says what token i + 2 is. Behind the text, the
    drafter's own last output stands for the target's thought, and its own token for the next one.

    A layer of 2 D inputs, as EAGLE-3 has it, would be another class than the library's: here a linear map leads from 2 D to D first.
    """

    def __init__(self, target: PreTrainedModel, features: int):
        super().__init__()
        body, config = target.base_model, target.config
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

    def begin(self, embed_BLD: Tensor, features_BLF: Tensor, seen_BL: Tensor) -> tuple[Tensor, State]:
        """(output at the last entry [B, D], what to go on from). Padding, not `seen`, stands left of everything."""
        state = State(DynamicCache(), seen_BL)
        return self._run(embed_BLD, self.thought(features_BLF), state)[:, -1], state

    def go_on(self, embed_BD: Tensor, out_BD: Tensor, state: State) -> Tensor:
        """The output behind one more token, of which the last output was the thought, [B, D]."""
        state.seen_BL = torch.cat([state.seen_BL, torch.ones_like(state.seen_BL[:, :1])], 1)
        return self._run(embed_BD[:, None], out_BD[:, None], state)[:, 0]

    def _run(self, embed_BQD: Tensor, thought_BQD: Tensor, state: State) -> Tensor:
        x_BQD = self.mix(torch.cat([self.norm_token(embed_BQD), self.norm_thought(thought_BQD)], -1))
        count, width = x_BQD.shape[1], state.seen_BL.shape[1]
        position_BQ = (state.seen_BL.long().cumsum(1) - 1).clamp(min=0)[:, -count:]
        at_Q = torch.arange(width, device=x_BQD.device)
        before_QK = at_Q[-count:, None] >= at_Q
        sees_BQK = (before_QK & state.seen_BL[:, None]) | (at_Q[-count:, None] == at_Q)  # padding sees itself, or would be nan
        mask_B1QK = torch.zeros_like(sees_BQK, dtype=x_BQD.dtype).masked_fill(~sees_BQK, torch.finfo(x_BQD.dtype).min)[:, None]
        return self.layer(
            x_BQD,
            attention_mask=mask_B1QK,
            position_ids=position_BQ,
            past_key_values=state.cache,
            use_cache=True,
            position_embeddings=self.rotary(x_BQD, position_BQ),
        )


class State:
    def __init__(self, cache: DynamicCache, seen_BL: Tensor):
        self.cache, self.seen_BL = cache, seen_BL


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """(tokens [B, L], which of them are none of padding [B, L])."""
    width = max(map(len, rows))
    tokens_BL = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    return tokens_BL, torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
