from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.loop.batches import written_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource
from opd_steps.seeds import rng


@dataclass(frozen=True)
class Masked(PrefixSource):
    """A text column with l of its places masked, l uniform in 1 .. G, the places too; decisions are their tokens. Behind its end a text is
    filled with end tokens up to the G places that the learner writes (LLaDA, arXiv 2502.09992, its fine-tuning and pretraining).

    With {estimator: mle, aggregate: seq_mean} it is LLaDA's loss: each row counts 1/G G/l sum over masked places of -log q, a mean.
    """

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True

    column: str = "solution"

    def rows(self, draw: Draw) -> Batch:
        made = written_rows(draw.texts(self.column, "response", self.column == "corpus"), draw)
        learner, extra = draw.learner, {"text": [], "order": [], "places": [], "steps": [], "block": []}
        for b, said in enumerate(made.rows.actions):
            text_G = filled(said, learner.max_new_tokens, learner.tokenizer.eos_token_id)
            chance = rng(draw.seed, "masked", draw.step, b)
            places_T = torch.from_numpy(chance.permutation(len(text_G))[: 1 + int(chance.integers(len(text_G)))]).sort().values
            order_G = torch.zeros_like(text_G).index_fill(0, places_T, 1)  # what is seen stood there before
            columns = (text_G, order_G, places_T, torch.ones_like(places_T), learner.family.block)
            for column, value in zip(extra.values(), columns, strict=True):
                column.append(value)
        actions = [text_G[places_T] for text_G, places_T in zip(extra["text"], extra["places"], strict=True)]
        nobody = [torch.full((len(a),), torch.nan) for a in actions]
        return Batch(made.rows.with_columns(actions=actions, logp=nobody, extra=extra), metrics=made.metrics)


def filled(said_T: Tensor, places: int, end: int) -> Tensor:
    """A text over so many places, [G]. Raises UserError for one that is longer."""
    if len(said_T) > places:
        what = (
            f"a text of the data has {len(said_T)} tokens, its end included: expected at least as many places, found {places}"
        )
        raise UserError("sampling.max_new_tokens", what)
    return torch.nn.functional.pad(said_T, (0, places - len(said_T)), value=end)
