"""What becomes of a learner's gradient before its update."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

    from opd_steps.nouns.gradient import GradientWork


class Gradient(Protocol):
    """Makes the object that does it.

    ROWS     rows of one backward pass; 0: the node's micro_batch
    PARALLEL whether a training of several processes may use it
    APART    whether it speaks of records: each comes by its own chance, as one row, whose loss knows no other
    METRICS  the figures that it draws
    """

    ROWS: ClassVar[int] = 0
    PARALLEL: ClassVar[bool] = True
    APART: ClassVar[bool] = False
    METRICS: ClassVar[tuple[str, ...]] = ()
    UNCARRIED: ClassVar[str] = "the gradient goes from its backward pass to its optimizer"

    @abstractmethod
    def make(self, model: torch.nn.Module, seed: int, updates: int) -> GradientWork:
        """For a learner's model, which will be updated so many times in all."""
