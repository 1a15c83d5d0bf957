"""Which decisions of written rows stand behind a mark in their text: the part of a solution that says whether it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from opd_steps.errors import UserError
from opd_steps.tasks.render import completion_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from opd_steps.nouns.trajectory import Trajectory


def behind(rows: Trajectory, tokenizer: PreTrainedTokenizerBase, mark: str) -> torch.Tensor:
    """[N] bool: tokens that begin behind the last `mark` of their row's text, the end token among them; "" = all.

    Raises UserError for a row without the mark.
    """
    return torch.cat([_behind(tokenizer, action.tolist(), mark) for action in rows.actions])


def _behind(tokenizer: PreTrainedTokenizerBase, ids: list[int], mark: str) -> torch.Tensor:
    if not mark:
        return torch.ones(len(ids), dtype=torch.bool)
    text = completion_text(tokenizer, ids)
    if mark not in text:
        raise UserError("after", f"{mark!r} stands nowhere in {text[:60]!r}")
    end = text.rindex(mark) + len(mark)
    first = next(t for t in range(len(ids) + 1) if len(completion_text(tokenizer, ids[:t])) >= end)
    return torch.arange(len(ids)) >= first
