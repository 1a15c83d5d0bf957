"""How often a masked language model's texts are right, drawn and greedy, and how it came to them, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from opd_steps.evaluation.films import COVER, COVERED, NEW, SEEN, write_films
from opd_steps.evaluation.suites import Suite
from opd_steps.seeds import sample_seeds
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from opd_steps.models.masked_policy import MaskedPolicy
    from opd_steps.nouns.task import Pool
    from opd_steps.nouns.trajectory import Trajectory
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class Decoding(Suite):
    """One greedy text for each prompt, and k texts (at least one) at `temperature`, by block decoding over `max_new_tokens` places.

    greedy      share of the greedy texts that are right
    sampled     share of the drawn ones; pass_at_k, of prompts with a right one among them
    sure        mean probability of the tokens of the drawn texts, each when it was uncovered

    Facts: `films`, the first drawn texts of each split, a frame for each step: runs of [0 covered, 1 seen, 2 just uncovered; text]; films/
    holds them as a page.
    """

    READS: ClassVar[tuple[str, ...]] = ("k", "temperature")
    METRICS: ClassVar[dict[str, str]] = {"greedy": "up", "sampled": "up", "pass_at_k": "up", "sure": ""}
    PROMPTS: ClassVar[dict[str, str]] = {"greedy": "reward", "sampled": "c / k", "pass_at_k": "c > 0"}

    shown: Annotated[int, "at least 1"] = 4  # texts of the facts

    @torch.no_grad()
    def evaluate(
        self, job: Job, policy: MaskedPolicy, pools: dict[str, Pool], teacher: MaskedPolicy | None
    ) -> tuple[dict[str, float], dict]:
        o, metrics, films = job.options, {}, {}
        k = max(o["k"], 1)
        for split, pool in pools.items():
            ids = list(range(len(pool)))
            policy.sample_by(o | {"temperature": 0.0})
            best = pool.play(policy, ids, ids)
            policy.sample_by(o)
            drawn = pool.play(policy, *sample_seeds(ids, k, job.seed, "decoding", split))
            right_PK = (drawn.reward_B >= 0.5).double().view(-1, k)
            found = {
                "greedy": (best.reward_B >= 0.5).double().mean(),
                "sampled": right_PK.mean(),
                "pass_at_k": right_PK.amax(1).mean(),
                "sure": drawn.logp_N.double().exp().mean(),
            }
            metrics |= {f"{split}/{name}": float(value) for name, value in found.items()}
            columns = zip(ids, pool.show(best), best.reward_B.tolist(), right_PK.sum(1).int().tolist(), strict=True)
            table = [
                {"id": pool.name(i), "prompt": pool.column("prompt", i), "greedy": text, "reward": reward, "c": c}
                for i, text, reward, c in columns
            ]
            write_jsonl(job.stage / "samples" / f"{split}.jsonl", table)
            films[split] = [film(policy, drawn.rows([i * k])) for i in ids[: self.shown]]
            write_films(job.stage / "films" / f"{split}.html", films[split])
        return metrics, {"k": k, "n_prompts": {split: len(pool) for split, pool in pools.items()}, "films": films}


def film(policy: MaskedPolicy, row: Trajectory) -> dict:
    """A text as it was uncovered: the prompt, whether it is right, and its frames."""
    pieces = [policy.tokenizer.decode([token]) for token in row.actions[0].tolist()]
    steps_T, frames = row.extra["steps"][0], []
    for step in range(int(steps_T.max()) + 1):
        state_T = [SEEN if at < step else NEW if at == step else COVERED for at in steps_T.tolist()]
        runs = groupby(zip(state_T, pieces, strict=True), key=lambda each: each[0])
        frames.append([[state, "".join(COVER if state == COVERED else piece for _, piece in run)] for state, run in runs])
    return {"prompt": policy.tokenizer.decode(row.contexts[0]), "right": bool(row.reward_B[0] >= 0.5), "frames": frames}
