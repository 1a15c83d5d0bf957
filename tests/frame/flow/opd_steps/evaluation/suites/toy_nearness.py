from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class ToyNearness(Suite):
    """Mean squared distance of k samples of each label from its image, and how many are near enough."""

    READS: ClassVar[tuple[str, ...]] = ("k",)
    METRICS: ClassVar[dict[str, str]] = {"nearness": "down", "right": "up"}

    def evaluate(
        self, job: Job, policy: Policy, pools: dict[str, Pool], teacher: Policy | None
    ) -> tuple[dict[str, float], dict]:
        found = {}
        for split, pool in pools.items():
            rows = pool.play(policy, *sample_seeds(list(range(len(pool))), job.options["k"], job.seed, "images"))
            gaps = [float((a[-1] - pool.image(c)).square().mean()) for a, c in zip(rows.actions, rows.contexts, strict=True)]
            found |= {f"{split}/nearness": sum(gaps) / len(gaps), f"{split}/right": float(rows.reward_B.mean())}
        return found, {"n_prompts": {split: len(pool) for split, pool in pools.items()}}
