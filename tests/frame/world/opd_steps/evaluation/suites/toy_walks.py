from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class ToyWalks(Suite):
    """How often k walks from each start arrive, and in how many moves."""

    READS: ClassVar[tuple[str, ...]] = ("k",)
    METRICS: ClassVar[dict[str, str]] = {"arrived": "up", "moves": "down"}

    def evaluate(
        self, job: Job, policy: Policy, pools: dict[str, Pool], teacher: Policy | None
    ) -> tuple[dict[str, float], dict]:
        found = {}
        for split, pool in pools.items():
            rows = pool.play(policy, *sample_seeds(list(range(len(pool))), job.options["k"], job.seed, "walks"))
            found |= {f"{split}/arrived": float(rows.reward_B.mean()), f"{split}/moves": float(rows.length_B.float().mean())}
            walks = [{"walk": walk, "arrived": r} for walk, r in zip(pool.show(rows), rows.reward_B.tolist(), strict=True)]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", walks)
        return found, {"n_prompts": {split: len(pool) for split, pool in pools.items()}}
