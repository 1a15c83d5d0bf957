"""Texts that are to be continued."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from opd_steps.config.plugs import plug
from opd_steps.tasks.rows import SPLITS, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Continued(Source):
    """The prompts of the source `of`, texts each, cut in two: what fits into `begin` bytes is the prompt, what fits into `more` bytes
    behind it solution and answer, the rest is cut off. Both end with a word, unless one is longer than that; white space goes with the
    word behind it. Texts that end with their prompt are left out, and counted in the log.

    Bytes are UTF-8's: a tokenizer of bytes makes no more tokens of them, in whatever script.
    """

    of: Any = plug("tasks/sources")
    begin: Annotated[int, "at least 4"] = 256
    more: Annotated[int, "at least 4"] = 256

    def rows(self, seed: int) -> dict[str, list[dict]]:
        found = self.of.rows(seed)
        return splits(*(self._cut(found[split], split) for split in SPLITS))

    def _cut(self, rows: list[dict], split: str) -> list[dict]:
        kept = []
        for row in rows:
            prompt = fitting(row["prompt"], self.begin)
            rest = fitting(row["prompt"][len(prompt) :], self.more)
            if rest.strip():
                kept.append(row | {"prompt": prompt, "answer": rest, "solution": rest, "corpus": rest})
        if left := len(rows) - len(kept):
            print(f"{split}: left out {left} of {len(rows)} texts, which end with their prompt", flush=True)
        return kept


def fitting(text: str, size: int) -> str:
    """As much of a text as fits into `size` bytes: whole words, where one fits."""
    held = text.encode()[:size].decode(errors="ignore")
    whole = re.match(r".*\S(?=\s)", text[: len(held) + 1], re.DOTALL)
    return text if held == text else whole.group() if whole else held
