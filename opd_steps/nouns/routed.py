"""Distributions of several models as one: each decision point is that of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist


@dataclass(frozen=True)
class Routed:
    """Distributions of several models over one action space: decision point i is number `at_N[i]` of `parts[which_N[i]]`.

    Whoever reads a chunk of it sees one distribution of the parts' kind; heads may differ.
    """

    parts: Sequence[StepDist]
    which_N: Tensor
    at_N: Tensor

    def __len__(self) -> int:
        return len(self.which_N)

    def chunk(self, start: int, stop: int) -> StepDist:
        which_n, at_n = self.which_N[start:stop], self.at_N[start:stop]
        found = [(k, (which_n == k).nonzero()[:, 0]) for k in which_n.unique().tolist()]
        # a part's decision points stand in order, so those of a chunk are neighbours
        pieces = [self.parts[k].chunk(int(at_n[i[0]]), int(at_n[i[-1]]) + 1) for k, i in found]
        return pieces[0] if len(pieces) == 1 else _merged(pieces, torch.cat([i for _, i in found]).argsort())

    def to(self, device: torch.device) -> Routed:
        return Routed([part.to(device) for part in self.parts], self.which_N, self.at_N)


def _merged(pieces: Sequence[StepDist], order_N: Tensor) -> StepDist:
    """One distribution of the pieces', decision points in that order; of what all of them know."""
    kinds = {type(piece) for piece in pieces}
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"teachers among whom rows are routed answer alike; found {names}")
    found = {}
    for f in fields(pieces[0]):
        values = [getattr(piece, f.name) for piece in pieces]
        if isinstance(values[0], Mapping):
            shared = [key for key in values[0] if all(key in value for value in values)]
            found[f.name] = {key: torch.cat([value[key] for value in values])[order_N] for key in shared}
        else:
            known = all(value is not None for value in values)
            found[f.name] = torch.cat(values)[order_N] if known else None
    return kinds.pop()(**found)
