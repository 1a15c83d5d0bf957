"""A policy that is asked while it trains: nothing of the training moves."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import sample_seeds

CHUNK = 1024  # decision points whose distributions there are at once


@contextmanager
def at_rest(policy: Any) -> Iterator[None]:
    """Without dropout and gradient."""
    trains = policy.model.training
    policy.model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        policy.model.train(trains)


def answers(policy: Any, pool: Any, samples: int, temperature: float, length: int, step: int, *parts: object) -> Trajectory:
    """Judged rows, `samples` of every prompt of the pool; their seeds are a function of `parts`. `length`: 0 = the policy's own."""
    asked = _twin(policy)
    asked.sample_by({"temperature": temperature, "max_new_tokens": length or getattr(policy, "max_new_tokens", 1)})
    with at_rest(policy):
        return pool.play(asked, *sample_seeds(list(range(len(pool))), samples, *parts), step)


def _twin(policy: Any) -> Any:
    """Another policy of the same weights, with those that it holds: how it samples is its own."""
    twin = copy.copy(policy)
    for name, part in vars(policy).items():
        if hasattr(part, "sample_by"):
            setattr(twin, name, copy.copy(part))
    return twin


def nll(policy: Any, rows: Trajectory, at_once: int) -> float:
    """Mean -log p of all decisions, nats, in fp64. `at_once`: rows."""
    total = 0.0
    with at_rest(policy):
        for first in range(0, len(rows), at_once):
            part = rows.rows(list(range(first, min(first + at_once, len(rows)))))
            dist, action_N = policy.dist(part), part.action_N
            for i in range(0, len(dist), CHUNK):
                chunk = dist.chunk(i, i + CHUNK)
                total -= float(chunk.logp(action_N[i : i + CHUNK].to(chunk.logp_NV.device)).double().sum())
    return total / int(rows.length_B.sum())
