"""Bigram policies and a list of prompts: what an analysis reads, small enough to work everything out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from opd_steps.analyses._context import Context
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.local import sample
from opd_steps.seeds import rng
from opd_steps.tasks.render import response_ids
from tests.unit.tiny import FakeTokenizer


@dataclass
class Bigram:
    """The next token depends on the last one alone: logits_VV[last]. The end token is V - 1."""

    logits_VV: Tensor
    max_new_tokens: int = 8
    tokenizer: FakeTokenizer = field(init=False)

    def __post_init__(self):
        self.vocab = len(self.logits_VV)
        self.tokenizer, self.ends = FakeTokenizer(self.vocab), (self.vocab - 1,)

    def rollout(self, contexts, prompt_ids, seeds, version: int = 0) -> Trajectory:
        actions = []
        for context, seed in zip(contexts, seeds, strict=True):
            tokens = list(context)
            for u in rng(seed).random(self.max_new_tokens):
                tokens.append(int(sample(self.logits_VV[tokens[-1]][None], torch.tensor([u]), 1.0)[0]))
                if tokens[-1] == self.vocab - 1:
                    break
            actions.append(torch.tensor(tokens[len(context) :]))
        rows = Trajectory([list(c) for c in contexts], actions, torch.tensor(list(prompt_ids)))
        return rows.with_columns(version_B=torch.full((len(rows),), version))

    def dist(self, rows: Trajectory, role: str = "student") -> Categorical:
        return Categorical.from_logits(self.logits_VV[states(rows)])


def states(rows: Trajectory) -> Tensor:
    """The last token before each decision point, [N]."""
    return torch.cat([torch.tensor([c[-1], *a[:-1].tolist()]) for c, a in zip(rows.contexts, rows.actions, strict=True)])


def path(tokens: list[int], vocab: int) -> Bigram:
    """Says the tokens one after the other, then the end token; surely, for 50 nats are enough."""
    logits = torch.zeros(vocab, vocab)
    for a, b in zip(tokens, [*tokens[1:], vocab - 1], strict=True):
        logits[a, b] = 50.0
    return Bigram(logits)


@dataclass
class Prompts(Pool):
    """`count` prompts of one token each; `reward(prompt, response tokens)`; the data says "]"."""

    count: int
    reward: Callable[[int, list[int]], float]
    token: Callable[[int], int] = lambda i: 0
    vocab: int = 16

    def __len__(self) -> int:
        return self.count

    @property
    def rows(self) -> list[dict]:
        return [{"solution": "]"}] * self.count

    def hinted(self, index: int, right=(), wrong=(), note: str = "") -> list[int]:
        """The attempts' number stands in front."""
        return [*([len(right) + len(wrong)] if right or wrong else []), self.token(index)]

    def show(self, rows: Trajectory) -> list[str]:
        return [str(a.tolist()) for a in rows.actions]

    def contexts(self, picks: list[int]) -> list[list[int]]:
        return [[self.token(i)] for i in picks]

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        every = range(self.count)
        said = torch.tensor(response_ids(FakeTokenizer(self.vocab), "]"))
        return Trajectory(self.contexts(every), [said] * self.count, torch.arange(self.count))

    def rewards(self, rows: Trajectory) -> list[float]:
        return [self.reward(int(p), a.tolist()) for p, a in zip(rows.prompt_B, rows.actions, strict=True)]


def random_bigram(seed: int, vocab: int = 8, scale: float = 1.5) -> Bigram:
    return Bigram(torch.randn(vocab, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale)


def context(pool: Prompts, seed: int = 0, **policies: Bigram) -> Context:
    return Context(policies, pool, seed)
