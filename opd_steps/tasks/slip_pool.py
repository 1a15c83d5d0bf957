"""A split of errands in a world whose steps slip, for one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from opd_steps.errors import UserError
from opd_steps.models.tokenizers import encode
from opd_steps.nouns.heard import apart
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.tasks.errands import Errand, Graph
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.slips import MARK, landed
from opd_steps.tasks.turns import Reply, converse

if TYPE_CHECKING:
    from opd_steps.models.lm_policy import LMPolicy


@dataclass
class SlipPool(PromptPool):
    """Rows whose answers are errands (tasks/errands.py). Raises UserError for a tokenizer that does not read a node as one token."""

    slip: float = 0.0

    def __post_init__(self):
        graphs = (Errand.read(row["answer"]).graph for row in self.rows)
        names = MARK + "".join(sorted(set().union(*(graph.neighbours for graph in graphs))))
        ids = encode(self.tokenizer, names)
        if len(ids) != len(names) or any(len(t) > 1 and set(t) <= set(names) for t in self.tokenizer.get_vocab()):
            raise UserError(self.place, "steps slip one by one: expected a tokenizer that reads each node as one token")
        self.token = dict(zip(names, ids, strict=True))

    def play(self, policy: LMPolicy, ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        """As all of `Pool`; which steps slip, and where to, is a function of seeds[i] and of the step's number alone."""
        walkers = [self._walker(i, seed, policy.max_new_tokens) for i, seed in zip(ids, seeds, strict=True)]
        answer = lambda going, said: [walkers[w].answer(tokens) for w, tokens in zip(going, said, strict=True)]
        return self.judge(converse(policy, self.contexts(ids), ids, seeds, version, answer))

    def _walker(self, index: int, seed: int, steps: int) -> _Walker:
        errand = Errand.read(self.rows[index]["answer"])
        return _Walker(errand.graph, errand.start, self.slip, rng(seed, "slips").random((steps, 2)).tolist(), self.token)

    def taken(self, rows: Trajectory) -> list[str]:
        """The walks that took place: each step where it led."""
        led = []
        for actions, heard in zip(rows.actions, rows.heard, strict=True):
            at, token = heard[heard[:, 1] != self.token[MARK]].unbind(1)
            led.append(actions.index_put((at - 1,), token))
        return self.show(rows.with_columns(actions=led, heard=None))

    def written(
        self, column: str, loss_on: str = "response", corpus: bool = False, ids: Sequence[int] | None = None
    ) -> Trajectory:
        """As texts are, but for the marks and the nodes behind them: those are the world's."""
        rows = super().written(column, loss_on, corpus, ids)
        parts = [apart(tokens, self._own(tokens)) for tokens in rows.actions]
        actions, heard = ([part[k] for part in parts] for k in range(2))
        return rows.with_columns(actions=actions, heard=heard)

    def _own(self, tokens: torch.Tensor) -> torch.Tensor:
        mark = tokens == self.token[MARK]
        return ~(mark | torch.cat([mark.new_zeros(1), mark[:-1]]))


class _Walker:
    """Where the walker of a row is; `chance`: two numbers for each of its steps."""

    def __init__(self, graph: Graph, place: str, slip: float, chance: list[list[float]], token: dict[str, int]):
        self.graph, self.place, self.slip, self.chance, self.token = graph, place, slip, chance, token
        self.names = {token: name for name, token in token.items()}
        self.steps = 0

    def answer(self, said: list[int]) -> Reply | None:
        """To the first step that slips. A token that is no step from where he is ends the walk: nobody answers any more."""
        for k, token in enumerate(said):
            node = self.names.get(token, MARK)
            if node not in self.graph.neighbours.get(self.place, ""):
                self.place = ""
                return None
            self.place = landed(self.graph, self.place, node, self.slip, self.chance[self.steps])
            self.steps += 1
            if self.place != node:
                return Reply(k + 1, [self.token[MARK], self.token[self.place]])
        return None
