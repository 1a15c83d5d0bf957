"""A split of questions that are told in shards, for one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.models.tokenizers import encode
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive
from opd_steps.tasks.pool import PromptPool

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy


@dataclass
class ShardPool(PromptPool):
    """See tasks/worlds/sharded.py. Raises UserError for more turns, or a longer one, than the world says there are."""

    form: str = "raw"
    turns: int = 8
    told: int = 64

    def contexts(self, ids: Sequence[int], corpus: bool = False) -> list[list[int]]:
        """The first turn; with `corpus`, as pretraining shows it."""
        if corpus or self.form == "full":
            return super().contexts(ids, corpus)
        shards = [self.column("shards", i) for i in ids]
        between = " " if self.task.chat else ""
        return [self.task.prompt_ids(self.tokenizer, s[0] if self.form == "raw" else between.join(s)) for s in shards]

    def play(self, policy: Policy, ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        """Rows of the last turn, each behind its own talk. Turn t before it has the seed derive(seeds[i], "turn", t)."""
        contexts, further = self.contexts(ids), [self._further(i) for i in ids]
        for turn in range(max(map(len, further), default=0)):
            on = [k for k, shards in enumerate(further) if turn < len(shards)]
            seeds_here = [derive(seeds[k], "turn", turn) for k in on]
            said = policy.rollout([contexts[k] for k in on], [ids[k] for k in on], seeds_here, version)
            for k, reply, closed in zip(on, said.actions, said.closed_B.tolist(), strict=True):
                tokens = reply.tolist()  # the end token stands in a chat, as its template has it
                contexts[k] = [*contexts[k], *(tokens[:-1] if closed and not self.task.chat else tokens), *further[k][turn]]
        return self.judge(policy.rollout(contexts, ids, seeds, version))

    def _further(self, index: int) -> list[list[int]]:
        """The tokens of the turns behind the first."""
        shards = self.column("shards", index)[1:] if self.form == "raw" else []
        task = replace(self.task, system=None)  # it was said in the first
        found = [task.prompt_ids(self.tokenizer, x) if task.chat else encode(self.tokenizer, x) for x in shards]
        if len(found) >= self.turns or any(len(shard) > self.told for shard in found):
            longest = max(map(len, found))
            what = f"{self.name(index)} has {len(found) + 1} turns of up to {longest} tokens; the task says {self.turns} and {self.told}"
            raise UserError(self.place, what)
        return found
