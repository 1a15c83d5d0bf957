"""What a teacher is made of, when its weights' source is asked to make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opd_steps.nouns.policy import Policy, Teacher


@dataclass(frozen=True)
class Given:
    """name      the teacher's
    learner   who is trained: the student, or the learner that the teacher names
    load      loads the teacher's own weights, frozen; once, however often it is asked
    pool      the prompts of training
    others    teachers that were made before this one
    pairs     (the learner's layer, the teacher's) whose hidden states the student's method holds side by side
    """

    name: str
    learner: Policy
    load: Callable[[], Policy]
    pool: Any
    others: Mapping[str, Teacher] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()
