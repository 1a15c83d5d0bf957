"""A drafter as a policy: it proposes a block of tokens, its target takes those that it would have said itself, and says one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.bases import Base
from opd_steps.models.draft_head import DraftHead
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32, Numerics, computing, dtype_of, multiplied
from opd_steps.models.replay import Replay
from opd_steps.models.speculative import speak
from opd_steps.nouns.dist import LazyCategorical
from opd_steps.nouns.trajectory import Trajectory


class DrafterPolicy:
    """`rollout` speaks: its rows are texts, the target's greedy ones whatever is drafted, and say of each of their M verifications what was
    proposed: extra["anchors"] [M], how much of the text stood before; extra["drafts"] [M, block]; extra["accepted"] [M].
    `dist` is about drafts: a row is one block, its context all text before it. `model` is what is trained; the target never is.
    """

    def __init__(
        self,
        model: DraftHead,
        target: LMPolicy,
        family: Any,
        base: Base,
        sampling: Mapping | None = None,
        numerics: Numerics = FP32,
    ):
        self.model, self.target, self.family, self.base = model, target, family, base
        self.numerics, self.compute = numerics, dtype_of(numerics.compute)
        self.layers = family.read_layers(target.model)
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

    @staticmethod
    def _require_two(contexts: Sequence[Sequence[int]]) -> None:
        if min(map(len, contexts), default=2) < 2:
            raise UserError("prompt", "a drafter goes on from what its target thought: expected two tokens at least")

    @torch.no_grad()
    def embed(self, tokens: Tensor) -> Tensor:
        return self.target.model.get_input_embeddings()(tokens.to(self.device))

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> LazyCategorical:
        """At each token of each block, told those of the block before it."""
        contexts = trajectory.extra.get(f"context:{role}", trajectory.contexts)
        self._require_two(contexts)
        said_BK = torch.nn.utils.rnn.pad_sequence(list(trajectory.actions), batch_first=True).to(self.device)
        replay = Replay(self, contexts)
        out_BKD = torch.stack([replay.out_BD, *(replay.go_on(said_B) for said_B in said_BK.T[:-1])], 1)
        hidden_ND, weight = self.model.norm(out_BKD[trajectory.owner_N, trajectory.step_N]), self.model.head.weight
        return LazyCategorical(*multiplied(hidden_ND, weight, self.compute), vocab=self.vocab)

    @torch.no_grad()
    def propose(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """The likeliest block behind each text, token by token, [B, block]."""
        self._require_two(contexts)
        replay, said = Replay(self, contexts), []
        for _ in range(self.family.block):
            said.append(self.likeliest(replay.go_on(said[-1]) if said else replay.out_BD))
        return torch.stack(said, 1).cpu()

    @torch.no_grad()
    def likeliest(self, out_BD: Tensor) -> Tensor:
        with computing(self.model, self.compute):
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
