"""Word problems that can be told sentence by sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from opd_steps.config.plugs import plug
from opd_steps.tasks.sources import Source

_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class SentenceShards(Source):
    """Rows of the source `of` with `shards`: the sentence that asks - the last one with a question mark, else the last - and then the
    others in their order (CCOPD's rule for GSM8K, arXiv 2605.30251); those beyond `most` shards stand in the last one together.
    """

    of: Any = plug("tasks/sources")
    most: Annotated[int, "at least 2"] = 8

    def rows(self, seed: int) -> dict[str, list[dict]]:
        told = lambda row: row | {"meta": row.get("meta", {}) | {"shards": self.shards(row["prompt"])}}
        return {split: [told(row) for row in rows] for split, rows in self.of.rows(seed).items()}

    def shards(self, prompt: str) -> list[str]:
        sentences = _END.split(prompt.strip())
        asks = [i for i, sentence in enumerate(sentences) if sentence.endswith("?")] or [len(sentences) - 1]
        facts = sentences[: asks[-1]] + sentences[asks[-1] + 1 :]
        head, tail = facts[: self.most - 2], facts[self.most - 2 :]
        return [sentences[asks[-1]], *head, *([" ".join(tail)] if tail else [])]
