"""How attempts at a prompt are shown to a model, marked as right or wrong."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol


class Hints(Protocol):
    """Writes attempts and a note into a prompt."""

    @property
    @abstractmethod
    def alphabet(self) -> str:
        """The characters that it writes itself."""

    @abstractmethod
    def hinted_prompt(self, prompt: str, right: Sequence[str], wrong: Sequence[str], note: str = "") -> str:
        """`prompt` with attempts marked as right or wrong, and a `note` to the reader; no attempts and no note: `prompt` itself."""
