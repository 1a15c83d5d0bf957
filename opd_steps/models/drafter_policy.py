"""A drafter as a policy: it proposes a block of tokens, its target takes those that it would have said itself, and says one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.bases import Base
from opd_steps.models.draft_head import DraftHead, left_padded
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.speculative import speak
from opd_steps.nouns.dist import LazyCategorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks


class DrafterPolicy:
    """`rollout` speaks: its rows are texts, the target's greedy ones whatever is drafted, and say of each of their M verifications what was
    proposed: extra["anchors"] [M], how much of the text stood before; extra["drafts"] [M, block]; extra["accepted"] [M].
    `dist` is about drafts: a row is one block, its context all text before it. `model` is what is trained; the target never is.
    """

    def __init__(self, model: DraftHead, target: LMPolicy, family: Any, base: Base, sampling: Mapping | None = None):
        self.model, self.target, self.family, self.base = model, target, family, base
        self.tokenizer, self.batch, self.ends, self.vocab = target.tokenizer, target.batch, target.ends, target.vocab
        self.temperature, self.max_new_tokens = 0.0, 32
        if sampling:
            self.sample_by(sampling)

    @property
    def device(self) -> torch.device:
        return self.target.device

    def sample_by(self, sampling: Mapping) -> None:
        self.temperature, self.max_new_tokens = sampling["temperature"], sampling["max_new_tokens"]
        self.target.sample_by({"temperature": 0.0, "max_new_tokens": self.max_new_tokens})

    # ---- drafts

    def _begin(self, contexts: Sequence[Sequence[int]]):
        """The drafter behind all that the target has read: of each text all but its last token."""
        self._require_two(contexts)
        read_BL, seen_BL = left_padded([c[:-1] for c in contexts], self.tokenizer.pad_token_id)
        next_BL, _ = left_padded([c[1:] for c in contexts], self.tokenizer.pad_token_id)
        count_B = seen_BL.sum(1)
        right_BL = torch.stack([row.roll(int(n)) for row, n in zip(read_BL, count_B, strict=True)])  # padding at the end
        with torch.no_grad():
            layers = self.family.read_layers(self.target.model)
            _, found = ranks.hidden_states(self.target.model, right_BL.to(self.device), layers)
            thought_BLF = torch.cat([found[layer] for layer in layers], -1)
            left_BLF = torch.stack([row.roll(-int(n), 0) for row, n in zip(thought_BLF, count_B, strict=True)])
        return self.model.begin(self._embed(next_BL), left_BLF, seen_BL.to(self.device))

    @staticmethod
    def _require_two(contexts: Sequence[Sequence[int]]) -> None:
        if min(map(len, contexts), default=2) < 2:
            raise UserError("prompt", "a drafter goes on from what its target thought: expected two tokens at least")

    @torch.no_grad()
    def _embed(self, tokens: Tensor) -> Tensor:
        return self.target.model.get_input_embeddings()(tokens.to(self.device))

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> LazyCategorical:
        """At each token of each block, told those of the block before it."""
        contexts = trajectory.extra.get(f"context:{role}", trajectory.contexts)
        said_BK = torch.nn.utils.rnn.pad_sequence(list(trajectory.actions), batch_first=True)
        out_BD, state = self._begin(contexts)
        outs = [out_BD]
        for k in range(said_BK.shape[1] - 1):
            outs.append(self.model.go_on(self._embed(said_BK[:, k]), outs[-1], state))
        hidden_BKD = self.model.norm(torch.stack(outs, 1))
        hidden_ND = hidden_BKD[trajectory.owner_N, trajectory.step_N]
        return LazyCategorical(hidden_ND, self.model.head.weight, vocab=self.vocab)

    @torch.no_grad()
    def propose(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """The likeliest block behind each text, token by token, [B, block]."""
        out_BD, state = self._begin(contexts)
        said = []
        for k in range(self.family.block):
            if k:
                out_BD = self.model.go_on(self._embed(said[-1]), out_BD, state)
            said.append(self._likeliest(out_BD))
        return torch.stack(said, 1).cpu()

    def _likeliest(self, out_BD: Tensor) -> Tensor:
        return self.model.head(self.model.norm(out_BD))[:, : self.vocab].argmax(-1)

    # ---- texts

    def rollout(
        self, contexts: Sequence[Sequence[int]], prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0
    ) -> Trajectory:
        """Speculative decoding of a greedy target; nothing is drawn. Raises UserError for a temperature above 0, and for a prompt of one
        token."""
        self._require_two(contexts)
        if self.temperature:
            raise UserError("sampling.temperature", f"a drafter's target is greedy: expected 0, found {self.temperature}")
        starts = range(0, len(contexts), self.batch)
        spoken = [text for i in starts for text in speak(self, contexts[i : i + self.batch])]
        column = lambda name: [torch.tensor(getattr(text, name)) for text in spoken]
        return Trajectory(
            [list(c) for c in contexts],
            column("said"),
            torch.tensor(list(prompt_ids)),
            version_B=torch.full((len(spoken),), version),
            ended_B=torch.tensor([text.said[-1] in self.ends for text in spoken]),
            extra={name: column(name) for name in ("anchors", "drafts", "accepted")},
        )
