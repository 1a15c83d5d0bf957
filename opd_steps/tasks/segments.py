"""Responses in two segments, the work and the answer behind a mark: where each ends, and which responses have the format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.nouns.duel import Said
from opd_steps.tasks.behind import behind
from opd_steps.tasks.render import completion_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from opd_steps.nouns.trajectory import Trajectory


def formatted(text: str, mark: str) -> bool:
    """Whether something stands in front of the last `mark`, and something behind it."""
    work, found, answer = text.rpartition(mark)
    return bool(found and work.strip() and answer.strip())


def in_segments(rows: Trajectory, tokenizer: PreTrainedTokenizerBase, mark: str) -> list[Said | None]:
    """Each row with the last token of its work, the mark's own, and of its answer, the end token; None where the format is not met, or
    the row did not end by itself. Rows that nobody sampled ended."""
    ended = [True] * len(rows) if rows.ended_B is None else rows.ended_B.tolist()
    texts = [completion_text(tokenizer, action, end) for action, end in zip(rows.actions, ended, strict=True)]
    valid = [i for i, (text, end) in enumerate(zip(texts, ended, strict=True)) if end and formatted(text, mark)]
    said: list[Said | None] = [None] * len(rows)
    if not valid:
        return said
    masks = behind(rows.rows(valid), tokenizer, mark).split(rows.length_B[valid].tolist())
    for i, mask in zip(valid, masks, strict=True):
        said[i] = Said(rows.contexts[i], rows.actions[i].tolist(), (int((~mask).sum()) - 1, len(mask) - 1))
    return said
