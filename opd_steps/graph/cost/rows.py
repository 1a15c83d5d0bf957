"""How long a node's rows are, as far as its options say: answers at their longest, and what nobody knows before the data are there assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

PROMPT, TEXT, SHOWN = (
    256,
    512,
    512,
)  # tokens of a prompt, of a solution in a data set, of what a teacher is shown beside the prompt


@dataclass(frozen=True)
class Length:
    """Tokens: `context` behind which `answer` are decided on; a teacher's row may have `teacher` in all. `seen`: of pictures, a part of the
    context."""

    context: int
    answer: int
    teacher: int
    seen: int = 0

    @property
    def total(self) -> int:
        return self.context + self.answer

    def within(self, most: int) -> Length:
        """Cut to what a model takes."""
        if max(self.total, self.teacher) <= most:
            return self
        answer = min(self.answer, most - 1)
        context = min(self.context, most - answer)
        return Length(context, answer, min(self.teacher, most), min(self.seen, context))

    def seeing(self, tokens: int) -> Length:
        """With pictures of so many tokens in front of each row's text, and of a teacher's."""
        return Length(self.context + tokens, self.answer, self.teacher + tokens, tokens)


def length_of(node: GraphNode) -> Length:
    """Of its longest rows."""
    found = node.says.rows(node, 0)
    plain = [rows for rows in found if not rows.context and not rows.shown] or found
    answer = max((rows.answer or TEXT for rows in plain), default=TEXT)
    shown = [rows.shown + (SHOWN if rows.context else 0) for rows in found]
    context = PROMPT + (max(shown, default=0) if plain is found else 0)
    return Length(context, answer, PROMPT + max(shown, default=0) + answer)
