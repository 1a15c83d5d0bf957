from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.loop.batches import unjudged, unsampled
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource
from opd_steps.seeds import rng


@dataclass(frozen=True)
class Pieces(PrefixSource):
    """Pieces of a text column: `length` tokens from each of `places` uniform places on, or what is left of it, behind all text before. So a
    drafter is told what its target says from anywhere, and never what follows an error of its own (EAGLE-3's training, arXiv 2503.01840).
    """

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True
    TRACES: ClassVar[bool] = True
    RECORDS: ClassVar[bool] = True

    column: str = "solution"
    length: Annotated[int, "at least 1"] = 5
    places: Annotated[int, "at least 1"] = 4  # of each text, at most its length

    def rows(self, draw: Draw) -> Batch:
        texts = draw.texts(self.column).rows([p for p in draw.picks for _ in range(draw.n)])
        contexts, actions, owner = [], [], []
        for b, (context, said) in enumerate(zip(texts.contexts, texts.actions, strict=True)):
            chance = rng(draw.seed, "pieces", draw.step, b)
            for k in sorted(chance.choice(len(said), min(self.places, len(said)), replace=False).tolist()):
                contexts.append([*context, *said[:k].tolist()])
                actions.append(said[k : k + self.length])
                owner.append(b)
        return unjudged(unsampled(Trajectory(contexts, actions, texts.prompt_B[owner]), draw.version))
