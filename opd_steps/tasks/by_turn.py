"""Texts in several turns, taken apart: each turn of the policy is a row, behind all that was said before it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from opd_steps.nouns.heard import woven
from opd_steps.nouns.trajectory import SILENCE, Trajectory


def by_turn(rows: Trajectory) -> Trajectory:
    """A row's decisions between two stretches of what others wrote, with the text before them as context; a row without any is one turn.

    Column "turn": its number within the row, from 0. Turns of a row stand together, in their order; only the last has ended.
    """
    tokens, places = woven(rows)
    contexts, actions, owner, turn, logp, last = [], [], [], [], [], []
    for i, heard in enumerate(rows.heard or [SILENCE] * len(rows)):
        own, count = places[i], len(rows.actions[i])
        cuts = sorted({0, count, *(p for p in heard[:, 0].tolist() if 0 < p < count)})
        for number, (start, stop) in enumerate(pairwise(cuts)):
            contexts.append([*rows.contexts[i], *tokens[i][: own[start]]])
            actions.append(rows.actions[i][start:stop])
            logp.append(None if rows.logp is None else rows.logp[i][start:stop])
            owner.append(i)
            turn.append(number)
            last.append(stop == count)
    found = rows.rows(owner)
    ended_B = None if found.ended_B is None else found.ended_B & torch.tensor(last)
    stop = found.stop and [text if end else "" for text, end in zip(found.stop, last, strict=True)]
    own = {"logp": rows.logp and logp, "ended_B": ended_B, "extra": found.extra | {"turn": turn}, "heard": None, "stop": stop}
    return replace(found, contexts=contexts, actions=actions, **own)
