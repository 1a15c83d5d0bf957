"""How a debate is shown to those who take part in it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol


class Transcript(Protocol):
    """Writes what experts said so far around a prompt. `parts`: (expert, round, text), both numbers from 0, in the order of speaking."""

    @abstractmethod
    def asks(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        """What an expert is asked to answer, with all that was said before; nothing yet: the first round."""

    @abstractmethod
    def shows(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        """What an expert has read, behind which somebody else's answer will stand."""
