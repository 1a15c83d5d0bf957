"""What a robot's policy reaches in its world: how often, how fast, and a few of its ways as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from opd_steps.evaluation.grids import write_grid
from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from opd_steps.models.vla_policy import VLAPolicy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class Episodes(Suite):
    """k episodes (at least one) from every context, at `temperature` (0: the likeliest bin), of at most `max_new_tokens` tokens.

    success               share that the task's own judge takes
    steps                 mean number of actions, of all episodes
    first, second, third  `success` over the contexts of one task alone

    Facts: `tasks`, `success` of every task by its name; `episodes`, the first ones of each split in words; `pictures`, their images as a
    PNG (`film` of the pool), an episode a line.
    """

    READS: ClassVar[tuple[str, ...]] = ("k", "temperature")
    METRICS: ClassVar[dict[str, str]] = {"success": "up", "steps": "down", "first": "up", "second": "up", "third": "up"}
    PROMPTS: ClassVar[dict[str, str]] = {"success": "reward", "steps": "steps"}

    shown: Annotated[int, "at least 1"] = 6  # episodes as pictures

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: VLAPolicy, pools: dict[str, Pool], teacher: VLAPolicy | None
    ) -> tuple[dict[str, float], dict]:
        o, metrics, by_task, told, grids = job.options, {}, {}, {}, {}
        policy.sample_by({"temperature": o["temperature"], "max_new_tokens": o["max_new_tokens"]})
        for split, pool in pools.items():
            rows = pool.play(policy, *sample_seeds(list(range(len(pool))), max(o["k"], 1), job.seed, "episodes", split))
            success_B, steps_B = rows.reward_B.double(), rows.length_B.double() / policy.family.dims
            metrics |= {f"{split}/success": float(success_B.mean()), f"{split}/steps": float(steps_B.mean())}
            tasks = [pool.column("task", i) for i in rows.prompt_B.tolist()]
            of = {task: float(success_B[torch.tensor([name == task for name in tasks])].mean()) for task in sorted(set(tasks))}
            metrics |= {f"{split}/{task}": share for task, share in of.items() if task in self.METRICS}
            by_task[split] = of
            said = zip(rows.prompt_B.tolist(), pool.show(rows), success_B.tolist(), steps_B.tolist(), strict=True)
            table = [
                {"id": pool.name(i), "prompt": pool.column("prompt", i), "text": text, "reward": s, "steps": n}
                for i, text, s, n in said
            ]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
            told[split], grids[split] = table[: self.shown], f"pictures/{split}.png"
            write_grid(job.stage / grids[split], *_lines(pool.film(rows.rows(slice(self.shown)))), line=0.0)
        facts = {"n_prompts": {split: len(pool) for split, pool in pools.items()}}
        return metrics, facts | {"tasks": by_task, "episodes": told, "pictures": grids}


def _lines(films: list[torch.Tensor]) -> tuple[torch.Tensor, int]:
    """(images in [-1, 1], how many of them stand in a line): a line an episode, grey behind its end."""
    wide = max(map(len, films))
    lines = [torch.cat([film, torch.full((wide - len(film), *film.shape[1:]), 128, dtype=torch.uint8)]) for film in films]
    return torch.cat(lines).float() / 127.5 - 1, wide
