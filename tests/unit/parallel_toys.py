"""Trainings of every kind on tiny models, run alike in one process and in several.

python -m tests.unit.parallel_toys FOLDER [mistake | kill | overflow | spoil]     (in each rank)
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file
from torch import Tensor

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds.rl import RlNode
from opd_steps.graph.options import Optim
from opd_steps.loop import adam8
from opd_steps.loop.batches import fixed_rows
from opd_steps.loop.learner import Learner
from opd_steps.loop.train import train
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.hook import Hook
from opd_steps.process import ranks
from opd_steps.process.launch import failing_together
from opd_steps.steps._training import mle_objective
from opd_steps.steps.rl import group_batch, objective
from tests.unit import opd_toys
from tests.unit.opd_toys import Killed
from tests.unit.tiny import FakeTokenizer, qwen
from tests.unit.toy_rows import VOCAB, ToyPool, solutions

SEED, STEPS = 3, 6
FULL_RKL = {"signal": "rkl", "support": "full", "estimator": "exact"}
PRUNE = {"name": "overlap_decay", "k": 4, "margin": 2}
OPTIM = {"lr": 0.01, "eps": 1e-4}  # noise in a gradient of nearly 0 is not made a step of full length


def job(folder: Path, options: dict) -> SimpleNamespace:
    folder.mkdir(exist_ok=True)
    fixed = {"steps": STEPS, "checkpoint_every": 2, "on_nonfinite": "stop", "max_skips": 5, "keep": {}, "spikes": {"factor": 0}}
    return SimpleNamespace(work=folder, seed=SEED, options=fixed | options, name="p/sft/toy/seed3")


def policy(seed: int, tie: bool, trains: bool = True) -> LMPolicy:
    model = ranks.shard(qwen(VOCAB, seed, tie).requires_grad_(trains))
    return LMPolicy(model, FakeTokenizer(VOCAB), max_new_tokens=5)


def weights(student: LMPolicy) -> dict[str, Tensor]:
    return {name: ranks.full(p.detach()).clone() for name, p in student.model.named_parameters()}


def sft(
    folder: Path,
    tie: bool = True,
    micro_batch: int = 4,
    kill_at: int = 0,
    hooks: tuple = (),
    dropout: float = 0.0,
    **optim: float,
) -> dict[str, Tensor]:
    student, rows = policy(0, tie), solutions(11)
    for layer in student.model.model.layers:
        layer.self_attn.attention_dropout = dropout

    def make_batch(step: int):
        if step == kill_at:
            raise Killed
        return fixed_rows(rows, SEED, step, 7)

    options = {"micro_batch": micro_batch, "optim": vars(Optim(**OPTIM | optim))}
    train(job(folder, options), Learner(student, mle_objective()), make_batch, hooks, dropout > 0)
    return weights(student)


def rl(folder: Path, tie: bool = True, micro_batch: int = 4, **changes) -> dict[str, Tensor]:
    small = {"kind": "rl", "policy": "p", "data": "d", "prompts": 3, "kl": 0.1, "optim": OPTIM}
    options = merge(RlNode, small | {"micro_batch": micro_batch, "sampling": {"n": 4, "max_new_tokens": 5}} | changes, "toy")
    student, reference, pool = policy(0, tie), policy(0, tie, trains=False), ToyPool(7)
    options |= {"steps": STEPS, "checkpoint_every": 2}
    make_batch = lambda step: group_batch(student, pool, step, SEED, options)
    train(job(folder, options), Learner(student, objective(options), {"reference": reference}), make_batch)
    return weights(student)


def opd(folder: Path, kill_at: int = 0, parents: dict | None = None, **changes) -> dict[str, Tensor]:
    made = folder.parent / "nodes"  # those of several ranks
    options = {"steps": STEPS, "optim": OPTIM} | changes
    return opd_toys.run(folder, kill_at, parents=parents, made=made if made.exists() else None, **options).weights


def moving(folder: Path, kill_at: int = 0) -> dict[str, Tensor]:
    length = {"name": "linear", "sets": "sampling.max_new_tokens", "first": 2, "last": 6}
    ahead = {"name": "effopd", "prompts": 3, "candidates": 1}
    return opd(folder, kill_at, teacher_source="ema", buffer={"batches": 3}, hooks=[ahead], controllers=[length])


def milestone(folder: Path) -> dict[str, Tensor]:
    """What the run kept of its third step."""
    opd(folder, keep={"early": 3}, method=FULL_RKL)
    return opd_toys.read_weights(folder / opd_toys.NODE / "parts/early")


def looked_at(folder: Path, kill_at: int = 0) -> dict[str, Tensor]:
    """The model of the best measurement, with samples beside it, and a guard against spikes."""
    held = {"name": "held_out", "split": "test", "every": 2, "measure": "nll", "best": True}
    seen = {"name": "samples", "every": 3, "prompts": 3, "temperature": 0.0}
    opd(folder, kill_at, hooks=[held, seen], spikes={"factor": 50.0, "window": 4})
    return opd_toys.read_weights(folder / opd_toys.NODE / "parts/best")


def adapter(folder: Path, kill_at: int = 0) -> dict[str, Tensor]:
    """LoRA, with a teacher and an anchor that is the student without its adapter, and a moving average of both."""
    method = FULL_RKL | {"add": [{"against": "reference", "estimator": "k3"}, {"against": "old"}]}
    own = {"old": {"model": "self", "weights": {"name": "ema", "rate": 0.3}}}
    start = {"reference": "model/student/seed0", "teachers.old.model": "model/student/seed0"}
    return opd(folder, kill_at, start, tune={"name": "lora", "r": 4}, teachers=own, method=method)


def stopped(train: Callable, kill_at: int) -> Callable:
    """Dies while making the batch of a step, and goes on from its checkpoint."""

    def run(folder: Path) -> dict[str, Tensor]:
        with pytest.raises(Killed):
            train(folder, kill_at=kill_at)
        return train(folder)

    return run


CASES: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "sft": sft,
    "sft untied": lambda folder: sft(folder, tie=False),
    "sft, one row at a time": lambda folder: sft(folder, micro_batch=1),  # 7 rows: one rank idles once
    "sft, all rows at once": lambda folder: sft(folder, micro_batch=64),
    "sft, killed": stopped(sft, 4),
    "rl": rl,
    "rl untied": lambda folder: rl(folder, tie=False, aggregate="token_mean"),
    "rl, dynamic sampling, minibatches": lambda folder: rl(folder, dynamic_sampling=True, minibatches=2, micro_batch=3),
    "opd sampled": lambda folder: opd(folder, method={"baseline": "neg_kl"}),
    "opd full": lambda folder: opd(folder, method=FULL_RKL),
    "opd untied": lambda folder: opd(folder, parents={"student": "model/untied"}, method=FULL_RKL),
    "opd, one row in all": lambda folder: opd(folder, method={"weight": [PRUNE]}, prompts=1, sampling={"n": 1}),
    "opd, several sources": lambda folder: opd(
        folder, method={"signal": "outcome", "add": [{"rows": "teacher"}, {"rows": "dataset", "estimator": "mle"}]}
    ),
    "opd, mixed tokens": lambda folder: opd(folder, method={"prefix": {"name": "token_mix"}}),
    "opd, wide weights": lambda folder: opd(folder, method={"weight": [PRUNE, "balance"], "transform": ["zscore"]}),
    "opd, passes of 20 tokens, packed": lambda folder: opd(
        folder, method={"weight": [PRUNE, "balance"]}, micro_tokens=20, packed=True
    ),
    "opd, ema": lambda folder: opd(folder, teacher_source={"name": "ema", "rate": 0.3}),
    "opd, extrapolate": lambda folder: opd(folder, hooks=[{"name": "effopd", "prompts": 5, "candidates": 2, "factor": 0.5}]),
    "opd, sparse": lambda folder: opd(
        folder, parents={"update_of": "model/end/seed5"}, hooks=[{"name": "sparse", "share": 0.3}]
    ),
    "opd, a milestone": milestone,
    "opd, looked at": looked_at,
    "opd, looked at, killed": stopped(looked_at, 5),
    "opd, lora": adapter,
    "opd, lora, killed": stopped(adapter, 5),
    "opd, all that has a state": moving,
    "opd, all that has a state, killed": stopped(moving, 5),
}


def eight_bits(folder: Path, kill_at: int = 0) -> dict[str, Tensor]:
    """With all matrices' moments in eight bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adam8, "LEAST", 1)
        return sft(folder, kill_at=kill_at, eight_bit=True)


OWN = {  # each number of ranks has other units dropped, and other noise that decides to which of two neighbours a moment is rounded
    "dropout": partial(sft, dropout=0.3),
    "eight bits": eight_bits,
    "eight bits, killed": stopped(eight_bits, 4),
    "dropout, killed": stopped(partial(sft, dropout=0.3), 4),
}


def folder_of(base: Path, case: str) -> Path:
    return base / "".join(c if c.isalnum() else "_" for c in case)


def main(base: Path) -> None:
    for case, run in (CASES | OWN).items():
        found = run(folder_of(base, case))
        if ranks.first():
            save_file(found, folder_of(base, case) / "weights.safetensors")
    with pytest.raises(Killed):
        sft(base / "left", kill_at=4)


class Spoiling(Hook):
    """A hook after which the last rank's part of one weight is no number at step 3."""

    def __call__(self, step: int, policy: LMPolicy, metrics: dict) -> None:
        if step == 3 and not ranks.first():
            policy.model.model.layers[1].mlp.up_proj.weight.to_local().data[0, 0] = float("inf")


def fail(base: Path, how: str) -> None:
    """Train for ever, but for the second rank; or with a learning rate that no weights survive."""
    if how == "overflow":
        sft(base, lr=1e38, schedule="linear", warmup=0.5, clip=0.0)
    if how == "spoil":
        sft(base, hooks=(Spoiling(),))
    for _ in range(1000):
        sft(base)
        if ranks.first():
            continue
        if how == "mistake":
            raise UserError("data.jsonl:7", "expected a number")
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with failing_together():
        ranks.join()
        fail(Path(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 2 else main(Path(sys.argv[1]))
        ranks.leave()
