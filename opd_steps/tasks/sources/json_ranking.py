"""Rankings as JSON lists: a small grammar whose structural tokens are learned from a corpus that often breaks it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source

STRUCTURE = '[]",'
_PATIENCE = 2000  # draws without a new prompt before the space counts as used up


@dataclass(frozen=True)
class JsonRanking(Source):
    """Prompt `b3a1c2=` (items with distinct scores), answer and solution `["b","c","a"]`: the items, highest score first.

    In `corpus`, with probability `format_noise`, one structural character is missing or another one stands in its place, and the
    text does not parse; with probability `order_noise`, two items are swapped. Check answers with `json_ranking`.
    """

    CHECKS: ClassVar[tuple[str, ...]] = (
        "names.isalpha() and unique(names)",
        "len(items) >= 1",
        "len(ood_items) >= 1",
        "max(items) <= min(len(names), 10**digits)",
        "max(ood_items) <= min(len(names), 10**digits)",
    )

    names: str = "abcdef"  # of items
    items: Annotated[list[int], "at least 2"] = field(default_factory=lambda: [3])  # of a prompt, train and test
    ood_items: Annotated[list[int], "at least 2"] = field(default_factory=lambda: [4])
    digits: Annotated[int, "1 to 18"] = 1  # of a score
    format_noise: Annotated[float, "0 to 1"] = 0.3  # probability that a text of the corpus breaks the grammar
    broken: Literal["any", "end"] = (
        "any"  # where: at any structural character; end: "]" is missing, one decision between two tokens
    )
    order_noise: Annotated[float, "0 to 1"] = 0.1  # probability that a text of the corpus swaps two items
    train: Annotated[int, "at least 1"] = 12000  # rows
    test: Annotated[int, "at least 0"] = 500
    ood: Annotated[int, "at least 0"] = 200

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows by split, all prompts distinct. Raises UserError when there are fewer prompts than rows asked for."""
        seen: set[str] = set()
        test = self._split(self.test, self.items, rng(seed, "json_ranking", "test"), seen)
        ood = self._split(self.ood, self.ood_items, rng(seed, "json_ranking", "ood"), seen)
        return splits(self._split(self.train, self.items, rng(seed, "json_ranking", "train"), seen), test, ood)

    def _split(self, count: int, items: Sequence[int], draw: np.random.Generator, seen: set[str]) -> list[dict]:
        out: list[dict] = []
        misses = 0
        while len(out) < count:
            k = items[int(draw.integers(len(items)))]
            names = [self.names[i] for i in draw.permutation(len(self.names))[:k]]
            scores = draw.choice(10**self.digits, size=k, replace=False).tolist()
            prompt = "".join(f"{n}{s:0{self.digits}d}" for n, s in zip(names, scores, strict=True)) + "="
            if prompt in seen:
                misses += 1
                if misses > _PATIENCE:
                    raise UserError(
                        "json_ranking", f"only {len(seen)} distinct prompts of these names and items; ask for fewer"
                    )
                continue
            misses = 0
            seen.add(prompt)
            ranked = [name for _, name in sorted(zip(scores, names, strict=True), reverse=True)]
            solution, corpus = write(ranked), write(ranked)
            if swapped := bool(draw.random() < self.order_noise):
                corpus = self.wrong_attempt({"answer": solution}, (), draw)
            if invalid := bool(draw.random() < self.format_noise):
                corpus = self._break(corpus, draw)
            out.append(row(prompt, solution, solution, corpus, items=k, swapped=swapped, invalid=invalid))
        return out

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        """The ranking with two items swapped."""
        items = json.loads(row["answer"])
        i, j = draw.choice(len(items), size=2, replace=False)
        items[i], items[j] = items[j], items[i]
        return write(items)

    def _break(self, text: str, draw: np.random.Generator) -> str:
        if self.broken == "end":
            return text[:-1]
        places = [i for i, c in enumerate(text) if c in STRUCTURE]
        at = places[int(draw.integers(len(places)))]
        instead = ["", *(c for c in STRUCTURE if c != text[at])][int(draw.integers(len(STRUCTURE)))]
        return text[:at] + instead + text[at + 1 :]


def write(items: list[str]) -> str:
    """A JSON list without spaces."""
    return json.dumps(items, separators=(",", ":"))
