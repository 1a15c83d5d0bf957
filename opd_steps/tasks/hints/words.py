"""Attempts behind the prompt, in words: for models that follow instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opd_steps.tasks.hints import Hints


@dataclass(frozen=True)
class Words(Hints):
    """The prompt, the attempts with a line each that says what they are, a note, and the request to solve the question.

    The defaults are the words of arXiv 2605.12652 (viviable/mopd_code). Paragraphs are set apart by an empty line.
    """

    right: str = "Correct solution:"
    also_right: str = "Another successful solution:"
    wrong: str = "A known failed solution (avoid repeating this mistake):"
    request: str = "Correctly solve the original question."

    @property
    def alphabet(self) -> str:
        return "\n" + self.right + self.also_right + self.wrong + self.request

    def hinted_prompt(self, prompt: str, right: Sequence[str], wrong: Sequence[str], note: str = "") -> str:
        if not (right or wrong or note):
            return prompt
        parts = [prompt.rstrip("\n")]
        for i, text in enumerate(right):
            parts += [self.also_right if i else self.right, text]
        for text in wrong:
            parts += [self.wrong, text]
        return "\n\n".join([*parts, *([note] if note else []), self.request]) + "\n"
