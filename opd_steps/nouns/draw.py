"""What a prefix source may draw the rows of a step from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory


@dataclass(frozen=True)
class Draw:
    """step       of the optimizer, from 1; `version`: optimizer steps that made the weights which sample (step - 1 when fresh)
    picks, n   the step's prompts, and how many rows of each
    seed       the node's
    learner    who is trained on the rows; `name`: its own, "" for the student
    policies   models of teachers that a source may let sample, by name
    pool       the prompts of training
    texts      texts(column): rows of a text column of the data; further arguments are those of Pool.texts
    made       what the learners before this one got at this step, by name
    """

    step: int
    version: int
    picks: list[int]
    n: int
    seed: int
    learner: Policy
    policies: Mapping[str, Policy]
    pool: Any
    texts: Callable[..., Trajectory]
    name: str = ""
    made: Mapping[str, Batch] | None = None
