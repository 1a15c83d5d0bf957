"""What a judge of a step's rows may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opd_steps.nouns.policy import Policy, Teacher


@dataclass(frozen=True)
class Bench:
    """What a judge may look at: the learners by name ("" is the student), the teachers, the prompts, the node's budget and seed;
    `texts`: what a teacher of whom nothing else is known answered, by prompt."""

    learners: Mapping[str, Policy]
    teachers: Mapping[str, Teacher]
    pool: Any
    window: int
    seed: int
    texts: Mapping[int, list[str]] = field(default_factory=dict)
