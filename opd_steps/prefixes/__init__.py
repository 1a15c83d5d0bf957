"""Prefix sources: whose tokens, or other decisions, the states of a step come from. A plug's `rows(draw)` makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory


@dataclass(frozen=True)
class Draw:
    """What a source may draw from, at one step.

    step       of the optimizer, from 1; `version`: optimizer steps that made the weights which sample (step - 1 when fresh)
    picks, n   the step's prompts, and how many rows of each
    seed       the node's
    learner    who is trained on the rows; `name`: its own, "" for the student
    policies   models of teachers that a source may let sample, by name
    pool       the prompts of training
    texts      texts(column): rows of a text column of the data
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
    texts: Callable[[str], Trajectory]
    name: str = ""
    made: Mapping[str, Batch] | None = None


class PrefixSource(Protocol):
    """SAMPLED  whether a policy sampled all of its rows, so that they have log-probs and rewards
    SAMPLER  the teacher whose own model must sample for it; "" for none
    TEXTS    whether it reads a text column of the data, named by its option `column`
    MIXED    whether it samples tokens from two models at once, which no engine does
    """

    SAMPLED: ClassVar[bool] = True
    SAMPLER: ClassVar[str] = ""
    TEXTS: ClassVar[bool] = False
    MIXED: ClassVar[bool] = False

    def rows(self, draw: Draw) -> Batch:
        """The rows of a step: a function of the draw alone."""
