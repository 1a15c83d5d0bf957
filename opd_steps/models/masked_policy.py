"""A masked diffusion language model as a policy: it begins with masks alone, and uncovers a few places at each step, block after block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from opd_steps.config.asks import Asks
from opd_steps.errors import NotFinite, UserError
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import computing
from opd_steps.nouns.dist import Categorical, LazyCategorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng

NEVER = -1e4  # logit of the mask itself: no text holds it. Finite, so that sums over the whole vocabulary are


class MaskedPolicy(LMPolicy):
    """A text has `max_new_tokens` = G places, in blocks of `family.block`; each step uncovers `family.per_step` of the first block that has
    covered ones. Columns of a row with T decisions, whose actions are tokens:

    text    [G] what stands in the places in the end; behind its first end token it is no part of the answer
    order   [G] number of the step, from 0, that uncovered each of them
    places  [T] where each decision's token stands
    steps   [T] the step at which each is asked: its state is the context, and all that earlier steps have uncovered
    block   of the family

    Beside them a teacher's own column shown:<name> [S, G] says what it sees uncovered already in each of the row's S states, by step.
    """

    @property
    def mask(self) -> int:
        return self.tokenizer.convert_tokens_to_ids(self.family.mask)

    def rollout(
        self, contexts: Sequence[Sequence[int]], prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0
    ) -> Trajectory:
        """One text for every context; decisions are its tokens up to its end, each at the step that uncovered it.

        Row i depends on its context and seeds[i] alone. Raises NotFinite for log-probs that are no numbers.
        """
        if self.max_new_tokens % self.family.block:
            what = (
                f"a text is uncovered in blocks of {self.family.block}: expected a multiple of it, found {self.max_new_tokens}"
            )
            raise UserError("max_new_tokens", what)
        self._require_room(max(map(len, contexts), default=0) + self.max_new_tokens)
        rows = [
            row
            for i in range(0, len(contexts), self.batch)
            for row in self._uncover(contexts[i : i + self.batch], seeds[i : i + self.batch])
        ]
        text, order, logp = ([row[k] for row in rows] for k in range(3))
        length = [self.end(said) for said in text]
        cut = lambda column: [row[:count] for row, count in zip(column, length, strict=True)]
        return Trajectory(
            [list(c) for c in contexts],
            cut(text),
            torch.tensor(list(prompt_ids)),
            cut(logp),
            version_B=torch.full((len(rows),), version),
            ended_B=torch.tensor([int(said[count - 1]) in self.ends for said, count in zip(text, length, strict=True)]),
            extra={
                "text": text,
                "order": order,
                "places": [torch.arange(count) for count in length],
                "steps": cut(order),
                "block": [self.family.block] * len(rows),
            },
        )

    def end(self, text_G: Tensor) -> int:
        """How many tokens of a text are its answer, the first end token included."""
        found = torch.isin(text_G, torch.tensor(self.ends)).nonzero()
        return int(found[0]) + 1 if len(found) else len(text_G)

    @torch.no_grad()
    def _uncover(self, contexts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(text, order, log-probs), each [G], of every context: low-confidence remasking (LLaDA, arXiv 2502.09992). Each covered place of the
        block is drawn at the temperature; those drawn tokens stay that are likeliest at temperature 1.
        """
        count, block, each = len(contexts), self.family.block, self.family.per_step
        text_BG = torch.full((count, self.max_new_tokens), self.mask)
        order_BG, logp_BG = torch.full_like(text_BG, -1), torch.zeros(text_BG.shape)
        chance_BSK = np.stack([rng(seed).random((self.max_new_tokens // each, block)) for seed in seeds])
        row_N = torch.arange(count).repeat_interleave(block)
        for step in range(self.max_new_tokens // each):
            start = step * each // block * block
            logits_NV = self._logits(contexts, text_BG, row_N, start + torch.arange(block).repeat(count))
            dist = Categorical.from_logits(logits_NV, self.temperature or 1.0)
            token_N = self._drawn(dist, torch.from_numpy(chance_BSK[:, step]).flatten())
            sure_N, logp_N = Categorical.from_logits(logits_NV).logp(token_N), dist.logp(token_N)
            if not (sure_N.isfinite() & logp_N.isfinite()).all():
                raise NotFinite(self.name, "the log-prob of a token is not finite")
            here = slice(start, start + block)
            covered_BK = order_BG[:, here] < 0
            pick_BE = sure_N.cpu().view(covered_BK.shape).masked_fill(~covered_BK, -torch.inf).topk(each).indices
            for column_BG, value_N in ((text_BG, token_N), (logp_BG, logp_N)):
                column_BG[:, here].scatter_(1, pick_BE, value_N.cpu().view(covered_BK.shape).gather(1, pick_BE))
            order_BG[:, here].scatter_(1, pick_BE, step)
        return list(zip(text_BG, order_BG, logp_BG, strict=True))

    def _drawn(self, dist: Categorical, chance_N: Tensor) -> Tensor:
        """A token of each distribution, [N]: at temperature 0 the likeliest."""
        if not self.temperature:
            return dist.logp_NV.argmax(-1)
        below_N = (dist.prob_NV.double().cumsum(-1) < chance_N[:, None].to(dist.logp_NV.device)).sum(-1)
        return below_N.clamp(max=dist.logp_NV.shape[-1] - 1)

    def _dist(self, trajectory: Trajectory, role: str, asks: Asks) -> LazyCategorical:
        if asks.hidden:
            raise UserError("method", "hidden states of a masked language model are not told")
        contexts, text_SG, state_N, place_N = self.states(trajectory, role)
        self._require_room(max(map(len, contexts)) + text_SG.shape[1])
        return LazyCategorical(
            self._logits(contexts, text_SG, state_N, place_N), None, temperature=self.temperature or 1.0, vocab=self.vocab
        )

    def states(self, trajectory: Trajectory, role: str = "student") -> tuple[list, Tensor, Tensor, Tensor]:
        """(contexts, texts [S, G] with masks) of all states that a role is asked about, and of each decision its state and its place, [N].

        Raises UserError for rows that do not say when their tokens were uncovered.
        """
        extra = trajectory.extra
        if "steps" not in extra:
            what = "a masked language model learns the data's own texts from masked copies: an opd node with prefix: masked"
            raise UserError("rows", what)
        told = extra.get(f"context:{role}", trajectory.contexts)
        contexts, texts, state_N, count = [], [], [], 0
        for b, steps_T in enumerate(extra["steps"]):
            steps_S, at_T = steps_T.unique(return_inverse=True)
            seen_SG = extra["order"][b] < steps_S[:, None]
            if f"shown:{role}" in extra:
                seen_SG = seen_SG | extra[f"shown:{role}"][b]
            texts.append(extra["text"][b].where(seen_SG, self.mask))
            contexts += [told[b]] * len(steps_S)
            state_N.append(count + at_T)
            count += len(steps_S)
        return contexts, torch.cat(texts), torch.cat(state_N), torch.cat(list(extra["places"]))

    def _logits(self, contexts: Sequence[Sequence[int]], text_SG: Tensor, state_N: Tensor, place_N: Tensor) -> Tensor:
        """Of some places of the texts behind their contexts, [N, V]; nothing sees padding, which stands behind."""
        length_S, width = torch.tensor([len(c) for c in contexts]), text_SG.shape[1]
        tokens_SL = torch.full((len(contexts), int(length_S.max()) + width), self.tokenizer.pad_token_id)
        for row_L, context, text_G in zip(tokens_SL, contexts, text_SG, strict=True):
            row_L[: len(context) + width] = torch.cat([torch.tensor(context), text_G])
        how = {}
        if len(length_S.unique()) > 1:
            there_SL = torch.arange(tokens_SL.shape[1]) < (length_S + width)[:, None]
            how["attention_mask"] = there_SL.long().to(self.device)
        with computing(self.model, self.compute):
            logits_SLV = self.model(input_ids=tokens_SL.to(self.device), **how).logits
        logits_NV = logits_SLV[state_N, length_S[state_N] + place_N, : self.vocab].float()
        return logits_NV.index_fill(-1, torch.tensor(self.mask, device=self.device), NEVER)
