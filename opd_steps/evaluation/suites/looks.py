"""What a model says of pictures that it sees whole, and of the part that tells the answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from opd_steps.evaluation.strips import write_strips
from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from opd_steps.models.vl_policy import VLPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.seen_pool import SeenPool

VIEWS = {"full": "scene", "crop": "crop"}


@dataclass(frozen=True)
class Looks(Suite):
    """Each question k times (at least once), at `temperature` (0: the likeliest answer), of the whole picture and of its crop.

    full, crop   share of answers that the task's own judge takes
    gap          crop - full

    Facts: `pictures`, of each split a PNG: the first pictures, their crops, and what was said of them.
    """

    READS: ClassVar[tuple[str, ...]] = ("k", "temperature", "stop")
    METRICS: ClassVar[dict[str, str]] = {"full": "up", "crop": "up", "gap": "down"}
    PROMPTS: ClassVar[dict[str, str]] = {"full": "full", "crop": "crop", "gap": "crop - full"}

    shown: Annotated[int, "at least 1"] = 8  # pictures of the file

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: VLPolicy, pools: dict[str, SeenPool], teacher: VLPolicy | None
    ) -> tuple[dict[str, float], dict]:
        o, metrics, grids = job.options, {}, {}
        policy.sample_by({"temperature": o["temperature"], "max_new_tokens": o["max_new_tokens"]})
        for split, pool in pools.items():
            ids, seeds = sample_seeds(list(range(len(pool))), max(o["k"], 1), job.seed, "looks", split)
            said = {name: replace(pool, view=view).play(policy, ids, seeds) for name, view in VIEWS.items()}
            right = {name: rows.reward_B.tolist() for name, rows in said.items()}
            mean = {name: sum(values) / len(values) for name, values in right.items()}
            metrics |= {f"{split}/{name}": value for name, value in (mean | {"gap": mean["crop"] - mean["full"]}).items()}
            texts = {name: pool.show(rows) for name, rows in said.items()}
            table = [
                {"id": pool.name(i), "answer": pool.column("answer", i)}
                | {name: right[name][n] for name in VIEWS}
                | {f"said_{name}": texts[name][n] for name in VIEWS}
                for n, i in enumerate(ids)
            ]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
            first = [ids.index(i) for i in range(min(self.shown, len(pool)))]
            grids[split] = f"pictures/{split}.png"
            strips = [
                (
                    [pool.shown(ids[n], view)["seen"][0] for view in VIEWS.values()],
                    [(f"{pool.column('prompt', ids[n])}: {table[n]['answer']}", None)]
                    + [(f"{name}: {texts[name][n]}", bool(right[name][n])) for name in VIEWS],
                )
                for n in first
            ]
            small = max(strips[0][0][0].shape) < 64
            write_strips(job.stage / grids[split], strips, 2 if small else 1)
        return metrics, {"n_prompts": {split: len(pool) for split, pool in pools.items()}, "pictures": grids}
