"""How well a model predicts texts that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from opd_steps.evaluation.points import nll
from opd_steps.evaluation.suites import Suite
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.behind import behind

if TYPE_CHECKING:
    from opd_steps.models.lm_policy import LMPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.pool import PromptPool


@dataclass(frozen=True)
class HeldOut(Suite):
    """Mean negative log-likelihood of a text column of each split, at temperature 1.

    nll   nats per token, over all tokens of the split that count, end tokens among them
    """

    METRICS: ClassVar[dict[str, str]] = {"nll": "down"}
    PROMPTS: ClassVar[dict[str, str]] = {"nll": "nll / mean_tokens"}
    TEXTS: ClassVar[bool] = True
    PLAYS: ClassVar[bool] = False
    CHECKS: ClassVar[tuple[str, ...]] = ("loss_on == 'response' or after == ''",)

    column: str = "corpus"
    loss_on: Literal["all", "response"] = "response"  # all: every token but the first, as in pretraining
    after: str = ""  # tokens behind the last such text alone, e.g. "=": those of the answer; "" = all

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: LMPolicy, pools: dict[str, PromptPool], teacher: LMPolicy | None
    ) -> tuple[dict[str, float], dict]:
        metrics = {}
        for split, pool in pools.items():
            rows = pool.written(self.column, self.loss_on, corpus=self.column == "corpus")
            member_N = behind(rows, policy.tokenizer, self.after)
            nll_N = nll(rows, policy, "student", job.options["batch"])
            owner_N, count = rows.owner_N, len(rows)
            nll_B = torch.zeros(count, dtype=torch.float64).index_add(0, owner_N, nll_N * member_N)
            tokens_B = torch.zeros(count, dtype=torch.long).index_add(0, owner_N, member_N.long())
            mean_tokens = int(tokens_B.sum()) / count
            metrics[f"{split}/nll"] = float(nll_B.sum()) / int(tokens_B.sum())
            by_row = enumerate(zip(nll_B.tolist(), tokens_B.tolist(), strict=True))
            table = [{"id": pool.name(i), "nll": x, "tokens": n, "mean_tokens": mean_tokens} for i, (x, n) in by_row]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
        return metrics, {"n_prompts": {split: len(pool) for split, pool in pools.items()}}
