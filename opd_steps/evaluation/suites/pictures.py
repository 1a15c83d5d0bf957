"""What a flow makes of its prompts: how often the image is right, and how far it is from any image that could be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from opd_steps.evaluation.grids import write_grid
from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from opd_steps.models.flow_policy import FlowPolicy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class Pictures(Suite):
    """k samples (at least one) of every prompt, in `max_new_tokens` steps of the SDE at `temperature`, 0: of the ODE.

    reward           the task's own outcome
    right            share of images whose nearest clean image is one that the prompt allows, where the task knows the clean ones
    distance         mean squared distance to the nearest clean image of all, and `error` to the nearest that the prompt allows; there
    first, second, third              `right`, or else `reward`, over the prompts of one task alone; first_distance ...: its `distance`

    The first images of each split are a grid in pictures/<split>.png, named in the facts.
    """

    READS: ClassVar[tuple[str, ...]] = ("k", "temperature")
    METRICS: ClassVar[dict[str, str]] = {
        "right": "up",
        "reward": "up",
        "distance": "down",
        "error": "down",
        "first": "up",
        "second": "up",
        "third": "up",
        "first_distance": "down",
        "second_distance": "down",
        "third_distance": "down",
    }
    PROMPTS: ClassVar[dict[str, str]] = {"right": "right", "reward": "reward", "distance": "distance", "error": "error"}

    shown: Annotated[int, "at least 1"] = 32  # images of the grid

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: FlowPolicy, pools: dict[str, Pool], teacher: FlowPolicy | None
    ) -> tuple[dict[str, float], dict]:
        o, metrics, grids = job.options, {}, {}
        policy.sample_by({"temperature": o["temperature"], "max_new_tokens": o["max_new_tokens"]})
        for split, pool in pools.items():
            rows = pool.play(policy, *sample_seeds(list(range(len(pool))), max(o["k"], 1), job.seed, "pictures", split))
            each = {"reward": rows.reward_B, **pool.measures(rows)}
            metrics |= {f"{split}/{name}": float(value_B.double().mean()) for name, value_B in each.items()}
            tasks = [pool.column("task", i) for i in rows.prompt_B.tolist()]
            for task in sorted(set(tasks)):
                mine_B = torch.tensor([name == task for name in tasks])
                metrics[f"{split}/{task}"] = float(each.get("right", each["reward"])[mine_B].double().mean())
                if "distance" in each:
                    metrics[f"{split}/{task}_distance"] = float(each["distance"][mine_B].double().mean())
            said = zip(rows.prompt_B.tolist(), pool.show(rows), *(value_B.tolist() for value_B in each.values()), strict=True)
            table = [{"id": pool.name(i), "text": text, **dict(zip(each, values, strict=True))} for i, text, *values in said]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
            last_BD = torch.stack([actions[-1] for actions in rows.actions[: self.shown]])
            grids[split] = f"pictures/{split}.png"
            write_grid(job.stage / grids[split], policy.images(last_BD))
        return metrics, {"n_prompts": {split: len(pool) for split, pool in pools.items()}, "pictures": grids}
