"""How far a drafter's blocks carry, and that its target's texts stay what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from opd_steps.evaluation.suites import Suite
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from opd_steps.models.drafter_policy import DrafterPolicy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class Drafts(Suite):
    """A text for each prompt, by speculative decoding of the greedy target.

    acceptance  tokens for each verification, the target's own one included: 1 = nothing was accepted, block + 1 = all was
    accepted    share of the drafted tokens that were
    lossless    share of texts that are the greedy target's own, token for token
    reward      the task's outcome of these texts

    Facts: `drafts`, the first texts of each split, block by block: what was accepted, what was rejected, what the target said.
    """

    METRICS: ClassVar[dict[str, str]] = {"acceptance": "up", "accepted": "up", "lossless": "up", "reward": "up"}
    PROMPTS: ClassVar[dict[str, str]] = {
        "acceptance": "tokens / mean_blocks",
        "accepted": "accepted / mean_drafted",
        "lossless": "lossless",
        "reward": "reward",
    }

    shown: Annotated[int, "at least 1"] = 6  # texts of the facts

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: DrafterPolicy, pools: dict[str, Pool], teacher: DrafterPolicy | None
    ) -> tuple[dict[str, float], dict]:
        metrics, told = {}, {}
        policy.sample_by({"temperature": 0.0, "max_new_tokens": job.options["max_new_tokens"]})
        for split, pool in pools.items():
            ids = list(range(len(pool)))
            rows = pool.play(policy, ids, ids)
            alone = policy.target.rollout(rows.contexts, ids, ids)
            each = {
                "tokens": rows.length_B.tolist(),
                "blocks": [len(anchors) for anchors in rows.extra["anchors"]],
                "drafted": [int((drafts >= 0).sum()) for drafts in rows.extra["drafts"]],
                "accepted": [int(accepted.sum()) for accepted in rows.extra["accepted"]],
                "lossless": [float(a.equal(b)) for a, b in zip(rows.actions, alone.actions, strict=True)],
                "reward": rows.reward_B.tolist(),
            }
            mean = {name: sum(values) / len(values) for name, values in each.items()}
            found = {"acceptance": mean["tokens"] / mean["blocks"], "accepted": mean["accepted"] / max(mean["drafted"], 1e-9)}
            found |= {name: mean[name] for name in ("lossless", "reward")}
            metrics |= {f"{split}/{name}": value for name, value in found.items()}
            means = {"mean_blocks": mean["blocks"], "mean_drafted": mean["drafted"]}
            lines = zip(*each.values(), strict=True)
            table = [
                {"id": pool.name(i), **dict(zip(each, line, strict=True)), **means} for i, line in zip(ids, lines, strict=True)
            ]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
            told[split] = [_told(policy, rows.rows([i])) for i in ids[: self.shown]]
        return metrics, {"n_prompts": {split: len(pool) for split, pool in pools.items()}, "drafts": told}


def _told(policy: DrafterPolicy, row) -> dict:
    """A text, block by block: [accepted, rejected, what the target said instead or behind]."""
    write = lambda tokens: policy.tokenizer.decode(tokens)
    said, blocks = row.actions[0].tolist(), []
    columns = [row.extra[name][0].tolist() for name in ("anchors", "drafts", "accepted")]
    for anchor, draft, right in zip(*columns, strict=True):
        block = [token for token in draft if token >= 0]
        own = said[anchor + right : anchor + right + 1]
        blocks.append([write(block[:right]), write(block[right:]), write(own)])
    return {"prompt": write(row.contexts[0]), "blocks": blocks}
