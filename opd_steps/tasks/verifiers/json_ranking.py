"""A ranking, written as a JSON list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class JsonRanking(Verifier):
    """1 if the whole completion is a JSON list of strings with the answer's items in the answer's order, else 0; `["b","a"]`.

    A thought (`<think>`) before it is not read.

    Measures, over samples: `parsed`, the share that is such a list, whatever its items; `avg_given_parsed`, the accuracy among
    these; `ndcg_at_1`, the share that puts the answer's first item first (one relevant item; what does not parse counts 0).
    """

    METRICS: ClassVar[dict[str, str]] = {"parsed": "up", "avg_given_parsed": "up", "ndcg_at_1": "up"}

    def score(self, completion: str, answer: str) -> float:
        return float(self.parsed(completion) and ranking(completion) == ranking(answer))

    def parsed(self, completion: str) -> bool:
        return ranking(completion) is not None

    def unreadable(self, answer: str) -> str:
        return "" if self.parsed(answer) else "is no JSON list of strings"

    def measure(self, completions: Sequence[str], answers: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
        ranked = [ranking(text) for text in completions]
        parsed = [score for found, score in zip(ranked, scores, strict=True) if found is not None]
        first = [found is not None and found[0] == ranking(answer)[0] for found, answer in zip(ranked, answers, strict=True)]
        given = {"avg_given_parsed": sum(parsed) / len(parsed)} if parsed else {}
        return {"parsed": len(parsed) / len(ranked), **given, "ndcg_at_1": sum(first) / len(first)}


def ranking(text: str) -> list[str] | None:
    """The items of a JSON list of strings, None if the text is anything else or the list is empty."""
    answer = after_thought(text)
    try:
        value = json.loads(answer or "")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and value and all(isinstance(item, str) for item in value) else None
