"""Walks on a graph in a world that answers each step: some slip, and it says where the walker really is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from opd_steps.errors import UserError
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.slip_pool import SlipPool


@dataclass(frozen=True)
class WalkSlips(World):
    """Errands of the source `walk`, or of one around it, judged by the verifier `walk` on the walk that took place. Each step along an
    edge leads, with probability `slip`, to another neighbour of where it began; the world then writes `~x`, the node where the walker
    is, and the policy goes on from there. Which steps slip, and where to, depends on the row's seed alone.

    The policy is not stopped at each step: it draws the rest of its walk, which is cut behind the first slip and drawn again from what
    the world wrote. This equals play step by step (tasks/turns.py). A walk has at most `max_new_tokens` steps and end token. A step
    that is no edge leads nowhere: nothing slips behind it, and the walk is wrong.

    Solutions and corpus are written in the same world: as the source's, by the shortest way from where each slip led. What the world
    writes is context there too, never learned as a decision. The corpus of rows that show something (`debated`, `hinted`) stays as it is.
    """

    READS: ClassVar[tuple[str, ...]] = ("source", "verifier", "drop_unreadable", "hints", "chat", "system", "template", "bos")
    CODE: ClassVar[tuple[str, ...]] = ("tasks/slip_pool.py",)
    WRITTEN_BY: ClassVar[tuple[str, ...]] = ("tasks/written.py", "tasks/slipped.py")
    TEXTS: ClassVar[bool] = True
    ANSWERS: ClassVar[bool] = True

    slip: Annotated[float, "0 to 0.5"] = 0.15  # probability that a step leads elsewhere

    def write(self, job: Job) -> dict:
        from opd_steps.tasks.slipped import slip_splits, walk_of
        from opd_steps.tasks.written import write_splits

        walk_of(job.options["source"])
        if (verifier := job.options["verifier"]["name"]) != "walk":
            raise UserError("verifier", f"the task walk_slips is about walks: expected walk, found {verifier}")
        return slip_splits(job, self.slip, write_splits(job))

    def pool(self, folder: Path, split: str, policy: Policy, limit: int = 0) -> SlipPool:
        from opd_steps.tasks.slip_pool import SlipPool

        return SlipPool.load(folder, split, policy.tokenizer, limit, slip=self.slip)

    def room(self, answer: int) -> int:
        return 4 * answer  # a mark and a node behind every step, and a last turn drawn at full length
