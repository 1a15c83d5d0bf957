"""A walk on a graph, from its start by way points to its goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opd_steps.tasks.errands import Errand
from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class Walk(Verifier):
    """1 if every step of the completion is an edge, the way points are met in order and it ends at the goal, else 0.

    The answer is the errand with its graph (tasks/errands.py), as the source `walk` writes it. A thought (`<think>`) is not read.

    Measures, over samples: `legal_moves`, the share of all steps that are edges; `way_point`, the share of samples that meet every
    way point before a step that is none; `detour`, the mean steps over those of a shortest walk, among right samples.
    """

    METRICS: ClassVar[dict[str, str]] = {"legal_moves": "up", "way_point": "up", "detour": "down"}

    def score(self, completion: str, answer: str) -> float:
        return float(Errand.read(answer).right(_walked(completion)))

    def unreadable(self, answer: str) -> str:
        try:
            Errand.read(answer)
        except ValueError:
            return "is no errand with its graph: 'a>c:abbc' is from a to c on the edges a-b and b-c"
        return ""

    def measure(self, completions: Sequence[str], answers: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
        walks = [(Errand.read(answer), _walked(text)) for text, answer in zip(completions, answers, strict=True)]
        steps = [legal for errand, walk in walks for legal in errand.legal(walk)]
        met = [errand.met(walk) >= len(errand.stops) - 1 for errand, walk in walks]
        over = [len(walk) - errand.shortest for (errand, walk), score in zip(walks, scores, strict=True) if score]
        found = {"way_point": sum(met) / len(met)}
        found |= {"legal_moves": sum(steps) / len(steps)} if steps else {}
        return found | ({"detour": sum(over) / len(over)} if over else {})


def _walked(completion: str) -> str:
    return (after_thought(completion) or "").strip()
