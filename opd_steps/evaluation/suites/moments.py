"""How well a model says when something happens in a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.evaluation.strips import write_strips
from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.verifiers.interval import interval

if TYPE_CHECKING:
    from opd_steps.models.vl_policy import VLPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.seen_pool import SeenPool

TRUTH, SAID, FREE = (0, 140, 60), (40, 80, 220), (225, 225, 225)
WIDE = 512  # pixels of a line of frames; above, every second one is left out until they fit


@dataclass(frozen=True)
class Moments(Suite):
    """Each question k times (at least once), at `temperature` (0: the likeliest answer).

    iou          mean overlap of the interval that is said with the right one
    r_at_5, r_at_7   share of answers with an overlap of at least .5, .7

    Facts: `pictures`, of each split a PNG: frames of the first videos, on the time line below the right interval, and below the one said.
    """

    READS: ClassVar[tuple[str, ...]] = ("k", "temperature", "stop")
    METRICS: ClassVar[dict[str, str]] = {"iou": "up", "r_at_5": "up", "r_at_7": "up"}
    PROMPTS: ClassVar[dict[str, str]] = {"iou": "iou", "r_at_5": "r_at_5", "r_at_7": "r_at_7"}

    shown: Annotated[int, "at least 1"] = 6  # videos of the file

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: VLPolicy, pools: dict[str, SeenPool], teacher: VLPolicy | None
    ) -> tuple[dict[str, float], dict]:
        o, metrics, grids = job.options, {}, {}
        policy.sample_by({"temperature": o["temperature"], "max_new_tokens": o["max_new_tokens"]})
        for split, pool in pools.items():
            rows = pool.play(policy, *sample_seeds(list(range(len(pool))), max(o["k"], 1), job.seed, "moments", split))
            ids, found, texts = rows.prompt_B.tolist(), rows.reward_B.tolist(), pool.show(rows)
            table = [
                {"id": pool.name(i), "prompt": pool.column("prompt", i), "answer": pool.column("answer", i), "text": text}
                | {"iou": x, "r_at_5": float(x >= 0.5), "r_at_7": float(x >= 0.7)}
                for i, text, x in zip(ids, texts, found, strict=True)
            ]
            metrics |= {f"{split}/{name}": sum(row[name] for row in table) / len(table) for name in self.METRICS}
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
            grids[split] = f"pictures/{split}.png"
            first = [ids.index(i) for i in range(min(self.shown, len(pool)))]
            strips = []
            for n in first:
                shown = pool.shown(ids[n], "scene")
                lines = [
                    (table[n]["prompt"], None),
                    (f"is: {table[n]['answer']}", None),
                    (f"said: {texts[n]}", found[n] >= 0.7),
                ]
                strips.append(([_line(shown, table[n]["answer"], texts[n])], lines))
            small = shown["seen"].shape[-1] < 32
            write_strips(job.stage / grids[split], strips, 3 if small else 1)
        return metrics, {"n_prompts": {split: len(pool) for split, pool in pools.items()}, "pictures": grids}


def _line(shown: dict, truth: str, said: str) -> Tensor:
    """Frames side by side; below them the time that the truth takes, and the time that was said, [3, H + 6, W]."""
    frames = shown["seen"]
    seconds = len(frames) / shown["rate"]
    while len(frames) > 1 and len(frames) * frames.shape[-1] > WIDE:
        frames = frames[::2]
    picture = torch.cat(list(frames), -1)
    bars = [_bar(interval(text), seconds, picture.shape[-1], ink) for text, ink in ((truth, TRUTH), (said, SAID))]
    return torch.cat([picture, *bars], 1)


def _bar(span: tuple[float, float] | None, seconds: float, wide: int, ink: tuple[int, int, int]) -> Tensor:
    bar = torch.tensor(FREE, dtype=torch.uint8)[:, None, None].repeat(1, 3, wide)
    bar[:, 0] = 255
    if span:
        start, end = (min(round(x / seconds * wide), wide) for x in span)
        bar[:, 1:, start:end] = torch.tensor(ink, dtype=torch.uint8)[:, None, None]
    return bar
