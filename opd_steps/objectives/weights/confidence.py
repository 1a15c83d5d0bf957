from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.objectives.weights import Weight


@dataclass(frozen=True)
class Confidence(Weight):
    """w_k = softmax_k( c_k / 100 / temperature ), c_k of 0 to 100 the confidence of expert k in the debate about the row's state; all alike
    where one of them is missing (MAD-OPD, arXiv 2605.01347). k: the teacher that the term is against, shown by the context `debate`.

    With two experts and temperature 1 each weight is within [.27, .73]. confidence: its mean; scored: rows that this teacher scored.
    """

    WIDE: ClassVar[bool] = True
    METRICS: ClassVar[tuple[str, ...]] = ("confidence", "scored")

    by: Literal["verbal", "logprob"] = "verbal"  # as its last reply states it, or 100 exp of that reply's mean log-prob
    temperature: Annotated[float, "above 0"] = 1.0

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        sure = rows.extra[f"confidence:{moment.against}"]
        weight_B = torch.stack([shares(torch.tensor(s[self.by]), self.temperature)[s["expert"]] for s in sure])
        return weight_B[rows.owner_N], {"confidence": float(weight_B.mean()), "scored": float(len(rows))}


def shares(confidence_K: Tensor, temperature: float) -> Tensor:
    """The weights of all experts, [K]; nan stands for a confidence that is missing."""
    if confidence_K.isnan().any():
        return torch.full_like(confidence_K, 1 / len(confidence_K))
    return (confidence_K / 100 / temperature).softmax(-1)
