"""Rewards of many completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Verifier(Protocol):
    def score(self, completion: str, answer: str) -> float:
        """1.0 if the completion gives the answer, else 0.0."""


def rewards(verifier: Verifier, completions: Sequence[str], answers: Sequence[str]) -> list[float]:
    """`verifier.score` of every pair."""
    return [verifier.score(completion, answer) for completion, answer in zip(completions, answers, strict=True)]
