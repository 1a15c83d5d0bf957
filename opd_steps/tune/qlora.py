from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from torch import nn

from opd_steps.errors import UserError
from opd_steps.tune import Tune
from opd_steps.tune.lora import Lora


@dataclass(frozen=True)
class Qlora(Tune):
    """`lora` beside weights in four bits: each layer that has an adapter holds its frozen weight in NF4, `block` weights a scale
    (arXiv 2305.14314; scales in fp32, not quantised again). So the training begins from the rounded model, and that is what the adapter
    is published on.
    """

    PARALLEL: ClassVar[bool] = False
    DROPOUT: ClassVar[str] = "dropout"
    CHECKS: ClassVar[tuple[str, ...]] = (
        "unique(targets)",
        "'lm_head' not in targets",
        "'embed_tokens' not in targets",
        "block % 2 == 0",
    )

    r: Annotated[int, "at least 1"] = 16
    alpha: Annotated[float, "above 0"] = 32.0
    dropout: Annotated[float, "at least 0, below 1"] = 0.0  # of what A reads; in pretrain and sft
    targets: list[str] = field(default_factory=list)
    block: Annotated[int, "at least 2"] = 64  # weights that share a scale; even

    def adapt(self, model: nn.Module, seed: int) -> None:
        from opd_steps.models.nf4 import Nf4
        from opd_steps.nouns.adapted import layers

        Lora(self.r, self.alpha, self.dropout, self.targets).adapt(model, seed)
        for name, layer in layers(model).items():
            if type(layer.base_layer) is not nn.Linear:
                said = f"{name} is a {type(layer.base_layer).__name__}, and nn.Linear alone is held in four bits: lora"
                raise UserError("tune", said)
            layer.base_layer = Nf4(layer.base_layer, self.block)
