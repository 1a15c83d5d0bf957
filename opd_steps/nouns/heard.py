"""Rows of tokens in which others wrote as well: a policy's decisions and what it heard, woven into one text and taken apart again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import SILENCE, Trajectory


def woven(rows: Trajectory) -> tuple[list[list[int]], list[Sequence[int]]]:
    """Per row all tokens behind the context as they stand, and where among them its decisions are."""
    tokens, places = [], []
    for actions, heard in zip(rows.actions, rows.heard or [SILENCE] * len(rows), strict=True):
        said, row, own, at = actions.tolist(), [], [], 0
        for place, token in heard.tolist():
            own += range(len(row), len(row) + place - at)
            row += [*said[at:place], token]
            at = place
        own += range(len(row), len(row) + len(said) - at)
        tokens.append(row + said[at:])
        places.append(own)
    return tokens, places


def read_over(rows: Trajectory) -> list[int]:
    """Per row the tokens that who sees the longest context of it reads; the last token of a row is not read."""
    views = [rows.contexts, *(contexts for name, contexts in rows.extra.items() if name.startswith("context:"))]
    heard = rows.heard or [SILENCE] * len(rows)
    return [max(len(contexts[b]) for contexts in views) + len(rows.actions[b]) + len(heard[b]) - 1 for b in range(len(rows))]


def apart(tokens: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """(actions [T], heard [H, 2]) of one row's tokens [L]; `own` [L]: which of them the policy decides."""
    place = own.cumsum(0) - own.long()
    return tokens[own], torch.stack([place, tokens], 1)[~own]
