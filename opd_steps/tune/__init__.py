"""What of a model a training changes: all of its weights, or an adapter beside them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import nn


class Tune(Protocol):
    """ADAPTS    whether it leaves the model's own weights as they are, and trains layers of peft that it puts around some of them
    PARALLEL  whether a training of several processes may use it
    DROPOUT   its option that drops values at random; set, it is for trainings with dropout alone (Training.DROPOUT of a kind); "" = none
    """

    ADAPTS: ClassVar[bool] = True
    PARALLEL: ClassVar[bool] = True
    DROPOUT: ClassVar[str] = ""
    UNCARRIED: ClassVar[str] = "it trains whole models, or adapters beside weights as they are"

    @abstractmethod
    def adapt(self, model: nn.Module, seed: int) -> None:
        """Put what is trained into a model that was loaded, a function of `seed`; all else of it is frozen.

        At first the model computes what it did. Raises UserError where it has no such layers.
        """
