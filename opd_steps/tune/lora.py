from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from opd_steps.errors import UserError
from opd_steps.seeds import derive
from opd_steps.tune import Tune


@dataclass(frozen=True)
class Lora(Tune):
    """A low-rank update beside each frozen matrix: W + (alpha / r) B A, A [r, in] drawn and B [out, r] 0 at first (arXiv 2106.09685, peft).

    `targets`: last parts of the layers' names, as [q_proj, v_proj], where that is no name with the part before, as [to_out.0]; [] = every
    linear layer but the head. Head and embedding stay as they are: losses read their weights in chunks (loop.chunked), past any layer
    around them. A and B are fp32 in a model of any dtype.
    """

    DROPOUT: ClassVar[str] = "dropout"
    UNCARRIED: ClassVar[str] = ""
    CHECKS: ClassVar[tuple[str, ...]] = ("unique(targets)", "'lm_head' not in targets", "'embed_tokens' not in targets")

    r: Annotated[int, "at least 1"] = 16
    alpha: Annotated[float, "above 0"] = 32.0
    dropout: Annotated[float, "at least 0, below 1"] = 0.0  # of what A reads; in pretrain and sft
    targets: list[str] = field(default_factory=list)

    def adapt(self, model: nn.Module, seed: int) -> None:
        from peft import LoraConfig  # 1 s, which nobody else needs

        from opd_steps.models.adapters import inject

        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self._names(model),
            fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),
            task_type="CAUSAL_LM" if isinstance(model, PreTrainedModel) else None,
        )
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "lora"))
            inject(model, config)
        model.eval()

    def _names(self, model: nn.Module) -> list[str]:
        text = isinstance(model, PreTrainedModel)
        outer = (model.get_input_embeddings(), model.get_output_embeddings()) if text else ()
        linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D) and m not in outer]
        there = sorted({_last(name) for name in linear})
        if strange := [name for name in self.targets if name not in there]:
            has = ", ".join(there) or "none"
            raise UserError("tune.targets", f"the model has no linear layer '{strange[0]}' beside its head; it has {has}")
        if not there:
            raise UserError("tune", "the model has no linear layers beside its head: full")
        others = {_last(name) for name, m in model.named_modules() if not isinstance(m, nn.Linear | Conv1D)}
        return list(self.targets) or sorted({name if _last(name) in others else _last(name) for name in linear})


def _last(name: str) -> str:
    """What peft takes for the end of a layer's name: of one in a list or a mapping of layers the last part alone would be any layer's there."""
    parts = name.split(".")
    return ".".join(parts[-1:] if parts[-1].isidentifier() else parts[-2:])
