"""Two texts held against each other, segment by segment: the rows of a discriminator, and what it says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical


@dataclass(frozen=True)
class Said:
    """A response: tokens of its prompt, its own tokens, and the last token of each segment, as a place among its own."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    ends: Sequence[int]


def duel(first: Said, second: Said) -> dict[str, list[int]]:
    """Two responses to one prompt as the context of a row, in columns that a buffer can keep."""
    found = {"prompt": list(first.prompt)}
    for name, said in (("first", first), ("second", second)):
        found |= {f"{name}_tokens": list(said.tokens), f"{name}_ends": list(said.ends)}
    return found


def both(duel: Mapping[str, list[int]]) -> list[Said]:
    """The two that a row holds against each other."""
    return [Said(duel["prompt"], duel[f"{name}_tokens"], duel[f"{name}_ends"]) for name in ("first", "second")]


@dataclass(frozen=True)
class Duels(Categorical):
    """Which of two texts has the better segment, at N = duels x segments decisions: action 0 is the first.

    score_N2, imbalance_N2   of both texts: the score, and how uneven its critic's experts were used       segments   of a text
    """

    score_N2: Tensor = field(kw_only=True)
    imbalance_N2: Tensor = field(kw_only=True)
    segments: int = field(kw_only=True)

    @classmethod
    def of(cls, score_B2S: Tensor, imbalance_B2S: Tensor) -> Duels:
        score_N2, imbalance_N2 = (x.transpose(1, 2).flatten(0, 1) for x in (score_B2S, imbalance_B2S))
        more = {"imbalance_N2": imbalance_N2, "segments": score_B2S.shape[2]}
        return cls(torch.log_softmax(score_N2, -1), score_N2=score_N2, **more)

    def chunk(self, start: int, stop: int) -> Duels:
        cut = {name: getattr(self, name)[start:stop] for name in ("score_N2", "imbalance_N2")}
        return Duels(self.logp_NV[start:stop], segments=self.segments, **cut)

    def to(self, device: torch.device) -> Duels:
        """They lie where their model lies."""
        return self
