"""Rows that go on from places of one text: the text is read once, and behind each place what its row says alone.

A context that another one goes on from is part of that one's text, the trunk of both; a row's own tokens, from the first one on that is not
the trunk's, are a branch of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

import torch
from torch import Tensor

from opd_steps.models.packing import Read

SMALL = 1 << 26  # pairs of tokens in a mask of no matter: 64 MB


@dataclass(frozen=True)
class Trunks:
    """texts   contexts that no other one goes on from
    of_B    which of them each row's context begins
    slot_B  a row's number among the rows of its text
    """

    texts: list[list[int]]
    of_B: list[int]
    slot_B: list[int]

    @property
    def most(self) -> int:
        """How many rows one of the texts has."""
        return 1 + max(self.slot_B, default=-1)


def trunks(contexts: Sequence[Sequence[int]]) -> Trunks:
    """In the order of tokens a context stands right before those that go on from it."""
    texts: list[list[int]] = []
    of_B, slot_B, last = [0] * len(contexts), [0] * len(contexts), 0
    for b in sorted(range(len(contexts)), key=lambda b: list(contexts[b]), reverse=True):
        context = list(contexts[b])
        if not texts or texts[-1][: len(context)] != context:
            texts.append(context)
            last = 0
        of_B[b], slot_B[b] = len(texts) - 1, last
        last += 1
    return Trunks(texts, of_B, slot_B)


def branched(
    contexts: Sequence[Sequence[int]], behind: Sequence[list[int]], places: Sequence[Sequence[int]], pad_id: int, device
) -> Read | None:
    """Rows as packing.padded reads them, but a row of tokens is a trunk with its branches, of which a mask keeps each apart. None where
    that would not halve the tokens, or where attention, which does all of the mask, had more to do: long answers to one prompt.
    """
    known = trunks(contexts)
    rows = [list(text) for text in known.texts]  # then the branches
    branch = [[-1] * len(text) for text in rows]  # of each token, whose it is
    position = [list(range(len(text))) for text in rows]
    bound = [list(range(1, len(text) + 1)) for text in rows]  # how much of the trunk each token sees
    leaves_B, start_B = [], []  # where each row leaves its trunk, and where its branch stands
    for b, (context, tokens, t) in enumerate(zip(contexts, behind, known.of_B, strict=True)):
        same = len(commonprefix([tokens[:-1], known.texts[t][len(context) :]]))  # noqa: RUF071   of tokens
        own, n = tokens[same:-1], len(context) + same
        leaves_B.append(n)
        start_B.append(len(rows[t]))
        rows[t] += own
        branch[t] += [b] * len(own)
        position[t] += range(n, n + len(own))
        bound[t] += [n] * len(own)
    width, alone_B = max(map(len, rows)), [len(c) + len(s) - 1 for c, s in zip(contexts, behind, strict=True)]
    if 2 * width * len(rows) > len(alone_B) * max(alone_B):
        return None
    if width * width * len(rows) > max(SMALL, sum(n * n for n in alone_B)):
        return None
    fill = lambda columns, value: torch.tensor([c + [value] * (width - len(c)) for c in columns], device=device)
    branch_TS, bound_TS, at_S = fill(branch, -2), fill(bound, 0), torch.arange(width, device=device)
    trunk_T1S = (branch_TS == -1)[:, None]
    own_TSS = (branch_TS[:, None] == branch_TS[:, :, None]) & (at_S <= at_S[:, None])
    sees_TSS = own_TSS | (trunk_T1S & (at_S < bound_TS[:, :, None]))
    place = lambda b, state: state if state < leaves_B[b] else start_B[b] + state - leaves_B[b]
    at = [place(b, len(contexts[b]) - 1 + p) for b, own in enumerate(places) for p in own]
    row = [known.of_B[b] for b, own in enumerate(places) for _ in own]
    how = {"position_ids": fill(position, 0), "attention_mask": sees_TSS[:, None]}
    places_N = torch.tensor(at, device=device), torch.tensor(row, device=device)
    return Read(fill(rows, pad_id), *places_N, how, [len(r) for r in rows])


def padded_texts(known: Trunks, pad_id: int) -> Tensor:
    """The texts side by side, padding on the right, [T, L]."""
    width = max(map(len, known.texts))
    return torch.tensor([text + [pad_id] * (width - len(text)) for text in known.texts])
