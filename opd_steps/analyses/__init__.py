"""Measurements on finished models."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.analyses._context import Context


class Analysis(Protocol):
    """Measures a model, perhaps beside others.

    NEEDS     what it reads beside `model`: other, peer, teacher, data, answers; methods, and then the teachers that these ask
    METRICS   all that it may measure; of each method where it stands as {method}
    BRANCHES  whether it lets a policy go on from prefixes of a text, which a task that answers has no part in
    """

    NEEDS: ClassVar[tuple[str, ...]]
    METRICS: ClassVar[tuple[str, ...]]
    BRANCHES: ClassVar[bool] = False

    @abstractmethod
    def measure(self, ctx: Context) -> dict[str, float | None]:
        """METRICS by name; None, or left out: not defined on these models and rows."""
