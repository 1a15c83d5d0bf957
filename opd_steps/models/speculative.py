"""Speculative decoding of a greedy target (arXiv 2211.17192): a drafter proposes a block, the target reads it at once and takes what it would
have said itself, and one token more of its own.

Either reads each token once: keys and values stay. Tokens that the target has read and not taken stay with them, and nobody looks at them
any more, as other rows may have taken theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from opd_steps.models.draft_head import left_padded, mask, placed
from opd_steps.models.numerics import computing

NONE = -1  # in place of a token behind the end of a block


class Text:
    """A text as it is spoken, with its verifications."""

    def __init__(self, context: Sequence[int]):
        self.context = list(context)
        self.said: list[int] = []
        self.anchors: list[int] = []
        self.drafts: list[list[int]] = []
        self.accepted: list[int] = []

    def verify(self, block: list[int], best: list[int], budget: int, ends: Sequence[int]) -> None:
        """Take of a block what the target likes best as well, and one token more of its own, up to an end token or the budget."""
        right = next((k for k, token in enumerate(block) if token != best[k]), len(block))
        self.anchors.append(len(self.said))
        self.drafts.append(block + [NONE] * (len(best) - 1 - len(block)))
        self.accepted.append(right)
        for token in best[: right + 1]:
            if len(self.said) < budget and not (self.said and self.said[-1] in ends):
                self.said.append(token)

    def over(self, budget: int, ends: Sequence[int]) -> bool:
        return len(self.said) >= budget or bool(self.said and self.said[-1] in ends)


class Speculative:
    """What drafter and target of a DrafterPolicy have read of several texts. Of each text of n tokens the target has read all but the last."""

    @torch.no_grad()
    def __init__(self, policy: Any, contexts: Sequence[Sequence[int]]):
        self.policy, self.texts, self.cache = policy, [Text(c) for c in contexts], DynamicCache()
        self.last_B = torch.tensor([c[-1] for c in contexts], device=policy.device)
        read_BL, seen_BL = left_padded([c[:-1] for c in contexts], policy.tokenizer.pad_token_id)
        self.seen_BL = seen_BL[:, :0].to(policy.device)
        _, thought_BLF = self._read(read_BL.to(policy.device), seen_BL.to(policy.device))
        next_BL, _ = left_padded([c[1:] for c in contexts], policy.tokenizer.pad_token_id)
        self.fresh = next_BL.to(policy.device), thought_BLF, seen_BL.to(policy.device)  # what the drafter has not read yet
        self.state = policy.model.fresh_state(self.seen_BL[:, :0])

    @torch.no_grad()
    def propose(self) -> Tensor:
        """The likeliest block behind each text, token by token, [B, block]."""
        model, policy, (next_BL, thought_BLF, seen_BL) = self.policy.model, self.policy, self.fresh
        with computing(model, policy.compute):
            out_BD = model.read(policy.embed(next_BL), thought_BLF, seen_BL, self.state)
            length, said = self.state.length, [policy.likeliest(out_BD)]
            for _ in range(policy.family.block - 1):
                out_BD = model.go_on(policy.embed(said[-1]), out_BD, self.state)
                said.append(policy.likeliest(out_BD))
        self.state.back_to(length)  # what it thought of its own drafts is no thought of the target's
        return torch.stack(said, 1)

    @torch.no_grad()
    def verify(self, block_BK: Tensor) -> list[list[int]]:
        """What the target likes best behind each text and behind each token of its block, block + 1 tokens of each."""
        tokens_BQ = torch.cat([self.last_B[:, None], block_BK.to(self.last_B.device)], 1)
        best_BQ, self.thought_BQF = self._read(tokens_BQ, torch.ones_like(tokens_BQ, dtype=torch.bool))
        self.best_BQ = best_BQ
        return best_BQ.tolist()

    def go_on(self, keep: list[int]) -> None:
        """Behind a verification, with these of the texts alone: the last block up to where it was accepted, and the target's own token."""
        took_B = [self.texts[i].accepted[-1] + 1 for i in keep]  # tokens that were read and are of the text
        keep_B, device = torch.tensor(keep, device=self.last_B.device), self.last_B.device
        best_BQ, thought_BQF, count = self.best_BQ[keep_B], self.thought_BQF[keep_B], self.best_BQ.shape[1]
        self.cache.batch_select_indices(keep_B)
        self.state.select(keep_B)
        took_B1 = torch.tensor(took_B, device=device)[:, None]
        self.seen_BL = self.seen_BL[keep_B]
        self.seen_BL[:, -count:] = torch.arange(count, device=device) < took_B1
        self.last_B = best_BQ.gather(1, took_B1 - 1)[:, 0]
        ahead = lambda x: pad_sequence([x[b, :n].flip(0) for b, n in enumerate(took_B)], batch_first=True).flip(1)
        width = max(took_B)
        seen_BQ = torch.arange(width, device=device) >= width - took_B1
        self.fresh = ahead(best_BQ), ahead(thought_BQF), seen_BQ
        self.texts = [self.texts[i] for i in keep]

    def _read(self, tokens_BQ: Tensor, fresh_BQ: Tensor) -> tuple[Tensor, Tensor]:
        """(what the target likes best behind each of these tokens [B, Q], what it thought at them [B, Q, F])."""
        target = self.policy.target
        self.seen_BL = torch.cat([self.seen_BL, fresh_BQ], 1)
        position_BQ, sees_B1QK = placed(self.seen_BL, tokens_BQ.shape[1])
        shown = mask(sees_B1QK, target.model.config, target.compute)
        how = {"position_ids": position_BQ, "attention_mask": shown, "past_key_values": self.cache, "use_cache": True}
        with computing(target.model, target.compute):
            found = target.model.base_model(input_ids=tokens_BQ, output_hidden_states=True, **how)
            logits_BQV = target.model.get_output_embeddings()(found.last_hidden_state)[..., : target.vocab]
        return logits_BQV.argmax(-1), torch.cat([found.hidden_states[layer] for layer in self.policy.layers], -1)


def speak(policy: Any, contexts: Sequence[Sequence[int]]) -> list[Text]:
    """The texts of greedy decoding behind the contexts, with what was drafted of them."""
    budget, ends = policy.max_new_tokens, policy.ends
    at_work = Speculative(policy, contexts)
    texts = at_work.texts
    while at_work.texts:
        blocks_BK = at_work.propose()
        for text, block, best in zip(at_work.texts, blocks_BK.tolist(), at_work.verify(blocks_BK), strict=True):
            text.verify(_cut(block, budget - len(text.said), ends), best, budget, ends)
        going = [i for i, text in enumerate(at_work.texts) if not text.over(budget, ends)]
        if not going:
            break
        at_work.go_on(going)
    return texts


def _cut(block: list[int], room: int, ends: Sequence[int]) -> list[int]:
    """A block up to its first end token, and as long as there is room."""
    first = [k + 1 for k, token in enumerate(block) if token in ends]
    return block[: min([room, *first])]
