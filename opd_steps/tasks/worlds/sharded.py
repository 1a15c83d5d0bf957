"""One question in three presentations: in full, in shards at once, or shard by shard with the policy's own replies in between."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from opd_steps.errors import UserError
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.shard_pool import ShardPool


@dataclass(frozen=True)
class Sharded(World):
    """Rows of a source that tells questions in `shards` (walk_shards, sentence_shards); what is known in the end is the same
    (CCOPD, arXiv 2605.30251). form: `full`, the prompt; `concat`, all shards at once; `raw`, the first one, and each further one
    behind what the policy replied to those before.

    A row's decisions are those of the last turn alone: the talk before it, the policy's replies of that moment included, is its
    context. So only the last answer is judged, learned and counted, and `max_new_tokens` is the budget of each turn.
    """

    READS: ClassVar[tuple[str, ...]] = ("source", "verifier", "drop_unreadable", "hints", "chat", "system", "template", "bos")
    CODE: ClassVar[tuple[str, ...]] = ("tasks/shard_pool.py",)
    WRITTEN_BY: ClassVar[tuple[str, ...]] = ("tasks/written.py",)
    TEXTS: ClassVar[bool] = True
    ANSWERS: ClassVar[bool] = True

    form: Literal["full", "concat", "raw"] = "raw"
    turns: Annotated[int, "at least 1"] = 8  # at most
    told: Annotated[int, "at least 1"] = 64  # tokens of a further shard at most, as the chat template writes it

    def write(self, job: Job) -> dict:
        from opd_steps.tasks.written import write_splits

        if not job.options["source"]["name"].endswith("_shards"):
            what = f"expected one that tells shards, walk_shards or sentence_shards; found {job.options['source']['name']}"
            raise UserError("source", what)
        return write_splits(job)

    def pool(self, folder: Path, split: str, policy: Policy, limit: int = 0) -> ShardPool:
        from opd_steps.tasks.shard_pool import ShardPool

        return ShardPool.load(folder, split, policy.tokenizer, limit, form=self.form, turns=self.turns, told=self.told)

    def room(self, answer: int) -> int:
        return self.turns * (answer + self.told) if self.form == "raw" else answer + self.turns * self.told
