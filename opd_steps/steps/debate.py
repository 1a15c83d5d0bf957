"""Debates as a data set: that of the parent, each train prompt with what the experts said of it."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean

import torch

from opd_steps.config import plugs
from opd_steps.nouns.trajectory import SILENCE, Trajectory
from opd_steps.seeds import sample_seeds
from opd_steps.steps._engines import sampling_engine
from opd_steps.steps._main import main
from opd_steps.steps._models import load_pool, load_sampler, require_same, weights_id
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.asking import load_split
from opd_steps.tasks.by_turn import by_turn
from opd_steps.tasks.debate import Debate, hold


@torch.no_grad()
def run(job: Job) -> None:
    """Publish the splits; rows of train have a column `debates`, one for each state.

    generations               replies a state, of all experts in all rounds
    right_first, right_last   share of the first and of the last round's replies to a prompt that are right
    split                     share of prompts on which the first round's replies are right and wrong
    sure_right, sure_wrong    mean confidence, 0 to 100 by log-prob, of right and of wrong ones of the last round
    unstated                  share of the last round's replies that state no confidence
    """
    options, sampling = job.options, job.options["sampling"]
    roles = [f"experts.{k}" for k in range(len(options["experts"]))]
    experts = [load_sampler(job, role) for role in roles]
    pool = load_pool(job, "train", experts[0], options["limit"])
    for role, expert in zip(roles, experts, strict=True):
        require_same(experts[0], expert, job, role)
        expert.engine = sampling_engine(job, role, pool, sampling["max_new_tokens"])
    texts = pool.written(options["column"]) if options["states"] == "turns" else None
    states = by_turn(texts) if texts else _prompts(pool)
    _, seeds = sample_seeds(list(range(len(states))), 1, job.seed, "debate")
    held, replies = hold(experts, pool, states, seeds, options["rounds"], plugs.load("tasks/transcripts", options["show"]))
    by_prompt: dict[int, list[dict]] = {}
    for i, debate in zip(states.prompt_B.tolist(), held, strict=True):
        by_prompt.setdefault(i, []).append(asdict(debate))
    for split in job.manifests["data"]["facts"]["splits"]:
        rows = load_split(job.path("data"), split)
        if split == "train":
            rows = [row | {"debates": by_prompt[i]} for i, row in enumerate(pool.rows)]
        write_jsonl(job.stage / f"{split}.jsonl", rows)
    facts = job.manifests["data"]["facts"] | {"experts": [weights_id(job, role) for role in roles]}
    facts |= {"splits": facts["splits"] | {"train": len(pool)}}
    job.publish(_figures(pool, states, held, replies), facts)


def _prompts(pool) -> Trajectory:
    """A state for each prompt: nobody has said anything yet."""
    return Trajectory(pool.contexts(range(len(pool))), [torch.zeros(0, dtype=torch.long)] * len(pool), torch.arange(len(pool)))


def _figures(pool, states: Trajectory, held: list[Debate], replies: list[list[Trajectory]]) -> dict[str, float]:
    """See `run`. Right or wrong are replies to whole prompts, the first states of each; without a right or a wrong one a figure is left out."""
    first = [b for b, turn in enumerate(states.extra.get("turn", [0] * len(states))) if turn == 0]
    right = [[_rewards(pool, rows.rows(first)) for rows in of_round] for of_round in replies]
    sure = [(held[b].logprob[k], r) for k, found in enumerate(right[-1]) for b, r in zip(first, found, strict=True)]
    mean = lambda values: fmean(values) if values else None
    figures = {
        "generations": sum(len(rows) for of_round in replies for rows in of_round) / len(states),
        "right_first": fmean(r for found in right[0] for r in found),
        "right_last": fmean(r for found in right[-1] for r in found),
        "split": fmean(float(len({r > 0 for r in of_prompt}) > 1) for of_prompt in zip(*right[0], strict=True)),
        "sure_right": mean([c for c, r in sure if r > 0]),
        "sure_wrong": mean([c for c, r in sure if r <= 0]),
        "unstated": fmean(c is None for debate in held for c in debate.verbal),
        "states": float(len(states)),
    }
    return {f"debate/{name}": value for name, value in figures.items() if value is not None}


def _rewards(pool, replies: Trajectory) -> list[float]:
    """Of answers that stand behind their prompts, whatever was shown in front of these."""
    plain = replies.with_columns(contexts=pool.contexts(replies.prompt_B.tolist()), heard=[SILENCE] * len(replies))
    return pool.judge(plain).reward_B.tolist()


if __name__ == "__main__":
    main(run)
