"""A teacher behind an inference engine: it scores each batch once, and what it said travels with the rows like a scores table's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.nouns.heard import woven
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.lengths import longest
from opd_steps.teachers.cached import CachedTeacher

WHOLE = 8192  # tokens: the largest vocabulary that an engine is asked for at every position


class EngineTeacher(CachedTeacher):
    """`engine.score` (rollout.vllm_engine, rollout.vllm_server) asked for no more than the method needs.

    make          makes the engine, given the largest k that it will be asked for; `start` calls it, once the cheap checks are done
    asks          what the method asks of it
    temperature   of the sampling; engines score at 1, so another one takes the whole vocabulary
    family        of the model that it stands for (models.families), for those that compare it with another

    Raises UserError for a vocabulary above WHOLE where all of it is needed.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        tokenizer: PreTrainedTokenizerBase,
        asks: Asks,
        temperature: float = 1.0,
        family: Any = None,
    ):
        self.make, self.tokenizer, self.temperature, self.family = make, tokenizer, temperature, family
        self.whole = asks.full or temperature not in (0.0, 1.0)
        self.k = -1 if self.whole else asks.topk
        if self.whole and len(tokenizer) > WHOLE:
            raise UserError(
                "teacher_engine.name",
                f"this method asks for the teacher's whole distribution over {len(tokenizer)} tokens, an engine answers for at most "
                f"{WHOLE}: use local, or the support sampled or teacher_topk at temperature 1",
            )

    def start(self, tokens: int) -> None:
        """Make the engine, for rows of up to so many tokens. Raises UserError where it takes none of that length."""
        self.engine = self.make(self.k)
        self._require_room(tokens)

    def _require_room(self, tokens: int) -> None:
        if tokens > self.engine.limit:
            what = f"rows of up to {tokens} tokens are to be scored, the engine takes {self.engine.limit}"
            raise UserError("teacher_engine.max_model_len", what)

    def prepare(self, rows: Trajectory, name: str = "teacher") -> Trajectory:
        """Columns <name>:logp, and <name>:topk_ids with <name>:topk_logp, or <name>:whole [T, V], per row."""
        contexts = rows.extra.get(f"context:{name}", rows.contexts)
        behind, places = woven(rows)
        asked = [[*context, *tokens] for context, tokens in zip(contexts, behind, strict=True)]
        self._require_room(longest(asked))  # a context may show the teacher more than the prompt
        found = self.engine.score(asked, [len(c) for c in contexts], self.k)
        logp, ids, topk = ([x[list(own)] for x, own in zip(column, places, strict=True)] for column in found)
        columns: dict[str, list[Tensor]] = {f"{name}:logp": logp}
        if self.whole:
            columns = {f"{name}:whole": [self._dense(i, p) for i, p in zip(ids, topk, strict=True)]}
        elif self.k:
            columns |= {f"{name}:topk_ids": ids, f"{name}:topk_logp": topk}
        return rows.with_columns(extra=rows.extra | columns)

    def ahead(self, context: Sequence[int], tokens: Tensor) -> None:
        """Have a row scored while others are still sampled. `prepare` finds it where the teacher sees the row as it was sampled."""
        self.engine.ahead([*context, *tokens.tolist()], len(context), self.k)

    def _dense(self, ids_TK: Tensor, logp_TK: Tensor) -> Tensor:
        """[T, V] over the tokenizer's tokens, normalised, at the sampling's temperature."""
        model_vocab = max(int(ids_TK.max()) + 1, len(self.tokenizer))
        logp_TV = torch.full((len(ids_TK), model_vocab), -torch.inf).scatter(1, ids_TK, logp_TK)
        return torch.log_softmax(logp_TV[:, : len(self.tokenizer)] / (self.temperature or 1.0), -1)

    def dist(self, trajectory: Trajectory, role: str = "teacher", asks: Asks = NOTHING) -> Recorded | Categorical:
        if self.whole:
            return Categorical(torch.cat(list(trajectory.extra[f"{role}:whole"])))
        return super().dist(trajectory, role, asks)
