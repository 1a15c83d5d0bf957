from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.objectives.estimators import Estimator
from opd_steps.objectives.evidence import Evidence


@dataclass(frozen=True)
class HiddenMSE(Estimator):
    """OPRD (arXiv 2606.06021, eq. 6): the mean over pairs of layers of (1/d) |h_S - sg h_T|^2, no probability in it.

    `layers`: the teacher's, 1 .. L (the last one behind the final norm); `student_layers`, as many: the student's beside them,
    where its depth differs. A teacher of weights `bridged` says how states of another width are read.
    normalize l2: of the states over their lengths, as in the released code, where it makes the loss hundreds of times smaller.
    hidden_cosine: mean cosine of the pairs. At aggregate seq_mean this is the paper's loss.
    """

    SUPPORT: ClassVar[str] = "sampled"
    SIGNAL: ClassVar[str] = "fixed"
    TEACHER: ClassVar[str] = "hidden"
    METRICS: ClassVar[tuple[str, ...]] = ("hidden_cosine",)
    CHECKS: ClassVar[tuple[str, ...]] = ("len(layers) >= 1", "len(student_layers) == len(layers) or len(student_layers) == 0")

    layers: Annotated[list[int], "at least 0"] = field(default_factory=list)
    student_layers: Annotated[list[int], "at least 0"] = field(default_factory=list)
    normalize: Literal["none", "l2"] = "none"

    def loss(
        self, q: StepDist, evidence: Evidence, support: Any, signal: Any, baseline: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        losses, cosines = [], []
        for i, j in zip(self.student_layers or self.layers, self.layers, strict=True):
            own_ND, other_ND = self._pair(q, evidence.teacher, i, j)
            cosines.append(torch.cosine_similarity(own_ND.detach(), other_ND, -1))
            if self.normalize == "l2":
                own_ND, other_ND = (torch.nn.functional.normalize(h_ND, dim=-1) for h_ND in (own_ND, other_ND))
            losses.append((own_ND - other_ND).square().mean(-1))
        return torch.stack(losses).mean(0), {"hidden_cosine": torch.stack(cosines).mean(0)}

    def _pair(self, q: StepDist, p: StepDist, i: int, j: int) -> tuple[Tensor, Tensor]:
        """States of student and teacher that compare, at least fp32. Raises UserError where widths differ."""
        own_ND, other_ND = (h_ND.to(torch.promote_types(h_ND.dtype, torch.float32)) for h_ND in (q.layers[i], p.layers[j]))
        if isinstance(p, HiddenStates) and p.maps:
            own_ND = own_ND @ p.maps[i, j].T.to(own_ND.dtype)
        if (mine := own_ND.shape[-1]) != (theirs := other_ND.shape[-1]):
            raise UserError(
                "method.estimator.layers",
                f"the student's layer {i} has width {mine}, the teacher's layer {j} {theirs}: take weights bridged for this teacher",
            )
        return own_ND, other_ND.detach()
