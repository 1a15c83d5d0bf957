"""Prompts in text, whose answers a verifier judges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.pool import PromptPool


@dataclass(frozen=True)
class Prompts(World):
    """Rows of `source`, each a prompt with an answer and a solution, judged by `verifier`. For models that have a tokenizer."""

    READS: ClassVar[tuple[str, ...]] = ("source", "verifier", "drop_unreadable", "hints", "chat", "system", "template", "bos")
    CODE: ClassVar[tuple[str, ...]] = ("tasks/pool.py",)
    WRITTEN_BY: ClassVar[tuple[str, ...]] = ("tasks/written.py",)
    TEXTS: ClassVar[bool] = True
    UNCARRIED: ClassVar[str] = ""

    # what writes is code of data nodes alone, what reads of all others: each imports only its own (graph/code.py)

    def write(self, job: Job) -> dict:
        from opd_steps.tasks.written import write_splits

        return write_splits(job)

    def pool(self, folder: Path, split: str, policy: Policy, limit: int = 0) -> PromptPool:
        from opd_steps.tasks.pool import PromptPool

        return PromptPool.load(folder, split, policy.tokenizer, limit)
