"""Hidden states alone: what a model says of decision points when nobody asks it for probabilities, so that its head is not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class HiddenStates:
    """A StepDist without probabilities.

    layers   hidden states [N, D] by layer, as transformers counts them
    maps     by (student's layer, own layer) a matrix [D, D']: a student's state of width D' times it is what compares with the
             own; none: it compares as it is
    """

    layers: Mapping[int, Tensor]
    maps: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.layers.values())))

    def logp(self, action_N: Tensor) -> Tensor:
        raise ValueError("hidden states alone were asked for: no action has a probability")

    def entropy(self) -> None:
        return None

    def chunk(self, start: int, stop: int) -> HiddenStates:
        return replace(self, layers={i: h[start:stop] for i, h in self.layers.items()})

    def to(self, device: torch.device) -> HiddenStates:
        move = lambda found: {key: tensor.to(device) for key, tensor in found.items()}
        return HiddenStates(move(self.layers), move(self.maps))
