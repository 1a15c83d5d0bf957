"""Responses in two segments, the work and the answer behind a mark: where each ends, and which responses have the format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from opd_steps.nouns.duel import Said
from opd_steps.tasks.behind import behind
from opd_steps.tasks.render import completion_text

if TYPE_CHECKING:
    from opd_steps.nouns.trajectory import Trajectory


def formatted(text: str, mark: str) -> bool:
    """Whether there is a mark, and something behind its last."""
    _, found, answer = text.rpartition(mark)
    return bool(found and answer.strip())


def in_segments(rows: Trajectory, pool: Any, mark: str, in_prompt: bool = False) -> list[Said | None]:
    """Each row with the last token of its work, the mark's own, and of its answer, the end token; None where the format is not met, or
    the row did not end by itself. Rows that nobody sampled ended. in_prompt: a row's mark is what the pattern `mark` (its group, if
    it has one) finds in its prompt.
    """
    ended = [True] * len(rows) if rows.ended_B is None else rows.ended_B.tolist()
    return [_said(rows, i, pool, mark, in_prompt) if end else None for i, end in enumerate(ended)]


def _said(rows: Trajectory, i: int, pool: Any, mark: str, in_prompt: bool) -> Said | None:
    action = rows.actions[i].tolist()
    if in_prompt:
        mark = re.findall(mark, pool.rows[int(rows.prompt_B[i])]["prompt"])[0]
    closed = rows.closed_B is None or bool(rows.closed_B[i])
    if not formatted(completion_text(pool.tokenizer, action, closed), mark):
        return None
    answer_T = behind(rows.rows([i]), pool.tokenizer, mark)
    return Said(rows.contexts[i], action, (int((~answer_T).sum()) - 1, len(action) - 1))
