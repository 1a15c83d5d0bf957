"""What an analysis looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from opd_steps.errors import UserError
from opd_steps.loop.batches import sampled_rows
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory


@dataclass(frozen=True)
class Context:
    """policies   the models by role (model, other, peer, teacher, reference), frozen, with the node's sampling
    pool       the prompts; None where the analysis needs no data
    seed       all randomness is a function of it
    methods    options of the methods that are measured, by name
    answers    a teacher's texts by prompt
    """

    policies: dict[str, Policy]
    pool: Pool | None
    seed: int
    methods: Mapping[str, dict] = field(default_factory=dict)
    answers: Mapping[int, list[str]] = field(default_factory=dict)

    def rollouts(self, role: str = "model", n: int = 1) -> Trajectory:
        """n samples of every prompt by one of the policies, with rewards; prompt by prompt, from seeds that all roles share."""
        return sampled_rows(self.policies[role], self.pool, list(range(len(self.pool))), n, 1, self.seed, "analyze").rows

    def require_tokens(self, option: str, k: int) -> None:
        """Raises UserError when an option asks for more tokens than there are."""
        if k > (vocab := self.policies["model"].vocab):
            raise UserError(f"analyze.analysis.{option}", f"asks for the likeliest {k} tokens, the vocabulary has {vocab}")
