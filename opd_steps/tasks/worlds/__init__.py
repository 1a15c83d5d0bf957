"""Worlds: what a task is made of, and how it is asked. A world is one file here, named as `task` on a `data` node.

Every node that reads the data asks its world for a pool (nouns.task); its manifest names it (`facts["task"]`).
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


class World(Protocol):
    """A task: questions, images, an environment. The options of the plug itself are read beside those that it READS.

    READS       options of the data node that it looks at, of source, verifier, drop_unreadable, hints, chat, system, template, bos; a node
                that sets another one is refused
    CODE        files of the package that `pool` imports when it is called: they belong to the code of those who read the data
    WRITTEN_BY  those that `write` imports when it is called: they belong to the code of the data node
    TEXTS       whether its contexts are text, which preflight measures in the tokens of every model that reads them (tasks/audit.py)
    ANSWERS     whether it writes into the texts that a policy writes (tasks/turns.py): what asks only once, goes on from prefixes, edits
                texts or reads them in another tokenizer is refused
    """

    READS: ClassVar[tuple[str, ...]] = ()
    CODE: ClassVar[tuple[str, ...]] = ()
    WRITTEN_BY: ClassVar[tuple[str, ...]] = ()
    TEXTS: ClassVar[bool] = False
    ANSWERS: ClassVar[bool] = False
    UNCARRIED: ClassVar[str] = "it plays nothing in turns: prompts, answered once"

    @abstractmethod
    def write(self, job: Job) -> dict:
        """Write the splits train, test and ood into job.stage, a function of options and job.seed; returns the node's facts, `splits`
        (contexts by split) among them. Raises UserError for data that cannot be used.
        """

    @abstractmethod
    def pool(self, folder: Path, split: str, policy: Policy, limit: int = 0) -> Pool:
        """A split of a published folder, as `policy` reads it; its first `limit` contexts, 0 = all. Raises UserError without any."""

    def room(self, answer: int) -> int:
        """Tokens behind its prompt that a model may have to read of a text with at most `answer` decisions of a policy."""
        return answer
