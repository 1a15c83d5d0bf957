"""Reading a data node: its rows, and how they are asked and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from opd_steps.config import plugs
from opd_steps.store.artifacts import read_manifest
from opd_steps.store.jsonl import Lines
from opd_steps.tasks.chat import messages
from opd_steps.tasks.chat_turns import chat_turns
from opd_steps.tasks.render import prompt_ids, with_bos

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from opd_steps.tasks.hints import Hints
    from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class Task:
    """How prompts are shown to a model (`chat`, `system`, `template`, `bos`, with attempts `hints`) and completions judged.

    Only a reader that judges or shows attempts loads what does: it is part of its code (node_code.py), and of no other's.
    """

    judge: dict  # a plug of tasks/verifiers
    show: dict  # a plug of tasks/hints
    chat: bool
    system: str | None
    bos: str = "auto"
    template: dict = field(default_factory=dict)

    @cached_property
    def verifier(self) -> Verifier:
        return plugs.load("tasks/verifiers", self.judge)

    @cached_property
    def hints(self) -> Hints:
        return plugs.load("tasks/hints", self.show)

    def prompt_ids(self, tokenizer: PreTrainedTokenizerBase, prompt: str, before: Sequence[dict[str, str]] = ()) -> list[int]:
        """The tokens that every reader of this data shows a model for `prompt`, behind the messages `before` (tasks/render.py)."""
        return prompt_ids(tokenizer, prompt, self.chat, self.system, self.bos, self.template, before)

    def turns(
        self, tokenizer: PreTrainedTokenizerBase, prompt: str, before: Sequence[dict[str, str]], answer: str
    ) -> list[tuple[list[int], bool]]:
        """The chat with its answer in turn (tasks/chat_turns.py)."""
        chat = [*messages(prompt, self.system, before), {"role": "assistant", "content": answer}]
        (first, _), *rest = chat_turns(tokenizer, chat, self.template)
        return [(with_bos(tokenizer, first, True, self.bos), False), *rest]


def load_task(folder: Path) -> Task:
    """The task of a data node's folder, from its manifest's facts."""
    facts = read_manifest(folder)["facts"]
    return Task(facts["verifier"], facts["hints"], facts["chat"], facts["system"], facts["bos"], facts["template"])


def load_split(folder: Path, split: str) -> Lines:
    """Rows of a split (tasks/rows.py), which stay on disk; may be none."""
    return Lines(Path(folder) / f"{split}.jsonl")
