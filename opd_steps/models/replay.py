"""What a drafter says behind places of texts, as training asks it: gradients, whole blocks, many places of one text at once.

Target and drafter read each text once (models.trunks); at a block's k-th token all blocks are one pass of the drafter's layer, in which each
sees its text up to its place, and its own tokens (EAGLE-3's training-time test, arXiv 2503.01840).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from opd_steps.models.numerics import computing
from opd_steps.models.trunks import padded_texts, trunks
from opd_steps.process import ranks


class Replay:
    """`out_BD`: the drafter's last output at each row's context; each `go_on` leads it over one more token of each row."""

    def __init__(self, policy: Any, contexts: Sequence[Sequence[int]]):
        self.policy, self.cache, self.said = policy, DynamicCache(), 0
        known, place = trunks(contexts), lambda values: torch.tensor(values, device=policy.device)
        self.count_B = place([len(c) for c in contexts])
        self.size, self.most = len(known.texts), known.most
        self.at_B = place(known.of_B) * self.most + place(known.slot_B)  # a row's place among all places of all texts
        tokens_TL = padded_texts(known, policy.tokenizer.pad_token_id).to(policy.device)
        self.length = tokens_TL.shape[1] - 1
        at_L = torch.arange(self.length, device=policy.device)
        embed_TLD, thought_TLD = policy.embed(tokens_TL[:, 1:]), self._thought(tokens_TL[:, :-1])
        out_TLD = self._run(embed_TLD, thought_TLD, at_L[None].expand(self.size, -1), (at_L <= at_L[:, None])[None, None])
        self.out_BD = out_TLD[place(known.of_B), self.count_B - 2]

        shown_BL = at_L < (self.count_B - 1)[:, None]
        self.own_TRR = torch.eye(self.most, dtype=torch.bool, device=policy.device)[None].expand(self.size, -1, -1)
        self.sees_TRK = self._spread(shown_BL)

    def go_on(self, token_B: Tensor) -> Tensor:
        """The output behind one more token of each row, of which the last output was the thought, [B, D]."""
        self.sees_TRK = torch.cat([self.sees_TRK, self.own_TRR], -1)
        position_TR = self._spread(self.count_B - 1 + self.said)
        embed_TRD, thought_TRD = self._spread(self.policy.embed(token_B)), self._spread(self.out_BD)
        out_TRD = self._run(embed_TRD, thought_TRD, position_TR, self.sees_TRK[:, None])
        self.out_BD, self.said = out_TRD.flatten(0, 1)[self.at_B], self.said + 1
        return self.out_BD

    def _spread(self, x_B: Tensor) -> Tensor:
        """Of rows [B, ...] to places of texts, [T, R, ...]; 0 where a text has fewer."""
        return x_B.new_zeros(self.size * self.most, *x_B.shape[1:]).index_copy(0, self.at_B, x_B).unflatten(0, (self.size, -1))

    def _run(self, embed_BQD: Tensor, thought_BQD: Tensor, position_BQ: Tensor, sees_B1QK: Tensor) -> Tensor:
        with computing(self.policy.model, self.policy.compute):
            return self.policy.model.run(embed_BQD, thought_BQD, position_BQ, sees_B1QK, self.cache)

    def _thought(self, tokens_TL: Tensor) -> Tensor:
        policy = self.policy
        with torch.no_grad(), computing(policy.target.model, policy.target.compute):
            _, found = ranks.hidden_states(policy.target.model, tokens_TL, policy.layers)
            features_TLF = torch.cat([found[layer] for layer in policy.layers], -1)
        with computing(policy.model, policy.compute):
            return policy.model.thought(features_TLF)
