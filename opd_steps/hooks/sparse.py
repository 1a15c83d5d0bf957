from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from opd_steps.errors import UserError
from opd_steps.hooks import HookPlug, Setting
from opd_steps.nouns.hook import Hook
from opd_steps.process import ranks
from opd_steps.seeds import derive


@dataclass(frozen=True)
class Sparse(HookPlug):
    """Train only a part of the coordinates: the `share` that another run's update moved most, or as many random ones (arXiv 2606.13657).

    The gradient is masked before the optimizer sees it; with weight_decay 0 the others never move. The other run is the
    node's `update_of`; it must have started from the same student.
    """

    UPDATE: ClassVar[bool] = True
    WEIGHTS: ClassVar[bool] = True

    share: Annotated[float, "above 0, at most 1"] = 0.2
    of: Literal["largest", "random"] = "largest"

    def make(self, setting: Setting) -> _Mask:
        return _Mask(self, setting)


class _Mask(Hook):
    """No state: the mask is a function of two finished models."""

    def __init__(self, options: Sparse, setting: Setting):
        start, end = (setting.policy.family.weights(folder) for folder in (setting.start, setting.update_of))
        if {n: p.shape for n, p in start.items()} != {n: p.shape for n, p in end.items()}:
            raise UserError(str(setting.update_of), "its shapes are not those of this node's student")
        moved = {name: (end[name].detach() - p.detach()).abs().cpu() for name, p in start.items()}
        if options.of == "random":
            draw = torch.Generator().manual_seed(derive(setting.seed, "sparse"))
            moved = {name: torch.rand(m.shape, generator=draw) for name, m in moved.items()}
        flat = torch.cat([m.flatten() for m in moved.values()])
        picks = flat.topk(
            max(1, round(options.share * len(flat)))
        ).indices  # so many even where many moved equally (not at all)
        parts = torch.zeros(len(flat), dtype=torch.bool).index_fill(0, picks, True).split([m.numel() for m in moved.values()])
        self.mask = {name: part.view_as(m) for (name, m), part in zip(moved.items(), parts, strict=True)}

    def before_step(self, policy) -> None:
        for name, p in policy.model.named_parameters():
            if p.grad is not None:
                p.grad.mul_(ranks.cut_like(self.mask[name], p.grad))
