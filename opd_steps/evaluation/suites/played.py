"""What a policy earns: for tasks of any kind, by the judge of the task itself."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

import torch

from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class Played(Suite):
    """k samples (at least one) of every context as the policy is deployed, played to their end and judged by the task.

    reward      mean outcome, over all samples
    length      mean number of decisions
    truncated   share of samples cut at their maximum length; of policies that say whether a row ended

    Beside these what the data's verifier measures, where the task has one.
    """

    READS: ClassVar[tuple[str, ...]] = ("k", "stop")
    METRICS: ClassVar[dict[str, str]] = {"reward": "up", "length": "", "truncated": ""}
    PROMPTS: ClassVar[dict[str, str]] = {"reward": "reward", "length": "length"}
    VERIFIER: ClassVar[str] = "model"

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: Policy, pools: dict[str, Pool], teacher: Policy | None
    ) -> tuple[dict[str, float], dict]:
        metrics, k = {}, max(job.options["k"], 1)
        for split, pool in pools.items():
            rows = pool.play(policy, *sample_seeds(list(range(len(pool))), k, job.seed, "played", split))
            found = {"length": float(rows.length_B.double().mean())}
            if rows.reward_B is not None:
                found |= {"reward": fmean(rows.reward_B.tolist())} | pool.measure(rows)
            if rows.ended_B is not None:
                found["truncated"] = float((~rows.ended_B).double().mean())
            metrics |= {f"{split}/{name}": value for name, value in found.items()}
            rewards = [None] * len(rows) if rows.reward_B is None else rows.reward_B.tolist()
            shown = zip(rows.prompt_B.tolist(), pool.show(rows), rewards, rows.length_B.tolist(), strict=True)
            table = [{"id": pool.name(p), "text": text, "reward": r, "length": n} for p, text, r, n in shown]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
        return metrics, {"k": k, "n_prompts": {split: len(pool) for split, pool in pools.items()}}
