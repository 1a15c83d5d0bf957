"""Errands that can be told bit by bit, and a corpus of talks about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.seeds import rng
from opd_steps.tasks.errands import Errand
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class WalkShards(Source):
    """Rows of the source `of`, a `walk`, with `shards`: of `a>k>q>t:` first the question, `a>t:`, then the facts `>k:` and `>q:` in
    order (CCOPD's rule, arXiv 2605.30251). The world `sharded` asks them in one way or another.

    In pretraining a share `talk` of the train rows is a talk up to any of its turns: behind each shard but the last a walk that serves
    what was said so far, a guess where facts are missing, and behind the last one more; that one is, with probability `anchored`, what
    was said before once again, whatever the new fact: a model that drifts with its own replies. A share `joined` has all shards at once.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("talk + joined <= 1",)

    of: Any = plug("tasks/sources", "walk")
    talk: Annotated[float, "0 to 1"] = 0.4
    anchored: Annotated[float, "0 to 1"] = 0.4
    joined: Annotated[float, "0 to 1"] = 0.2

    def rows(self, seed: int) -> dict[str, list[dict]]:
        found, draw = {}, rng(seed, "walk_shards")
        for split, rows in self.of.rows(seed).items():
            found[split] = [row | {"meta": row["meta"] | {"shards": shards(Errand.read(row["answer"]))}} for row in rows]
        return found | {"train": [self._shown(row, draw) for row in found["train"]]}

    def _shown(self, row: dict, draw: np.random.Generator) -> dict:
        chance = draw.random()
        if chance < self.talk:
            return self._talked(row, draw)
        return row | {"corpus_prompt": "".join(row["meta"]["shards"])} if chance < self.talk + self.joined else row

    def _talked(self, row: dict, draw: np.random.Generator) -> dict:
        errand, said = Errand.read(row["answer"]), row["meta"]["shards"]
        last, text, replies = int(draw.integers(len(said))), "", []
        for turn in range(last + 1):
            known = Errand(errand.start, errand.stops[:turn] + errand.stops[-1], errand.graph)
            replies.append(self.of.right_attempt(row | {"answer": str(known)}, draw))
            text += said[turn] + (replies[-1] if turn < last else "")
        again = last > 0 and draw.random() < self.anchored
        return row | {"corpus_prompt": text, "corpus": replies[-2 if again else -1]}


def shards(errand: Errand) -> list[str]:
    """The question, then the way points one by one."""
    return [f"{errand.start}>{errand.stops[-1]}:", *(f">{stop}:" for stop in errand.stops[:-1])]
