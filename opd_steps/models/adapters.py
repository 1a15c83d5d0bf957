"""Adapters as files, in peft's own format (`PeftModel.from_pretrained` reads them): written, and merged into the model under them."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from opd_steps.errors import NotFinite, UserError
from opd_steps.models.bases import OF_PEFT, WEIGHTS
from opd_steps.models.nf4 import Nf4, rounded
from opd_steps.models.numerics import dtype_of
from opd_steps.nouns.adapted import layers, plain, put
from opd_steps.process import ranks
from opd_steps.process.finite import not_finite
from opd_steps.store.files import write_json

CONFIG = "adapter_config.json"
_ROUNDING = "nf4"  # in the metadata of an adapter beside weights in four bits: "<block> <dtype of the weights>"


def inject(model: nn.Module, config: PeftConfig) -> None:
    """Put fp32 adapters around the layers that a config names; all else is frozen."""
    inject_adapter_in_model(config, model)
    for parameter in model.parameters():
        if parameter.requires_grad:  # peft gives them the dtype of the layer
            parameter.data = parameter.data.float()


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Write the adapter of a model alone; equal weights give equal bytes. Called by all processes."""
    tensors = ranks.for_writing(_weights(model))
    if not ranks.first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"].to_dict() | {"inference_mode": True}
    write_json(folder / CONFIG, {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()})
    named = {OF_PEFT + name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    told = {"format": "pt"}  # one entry: safetensors writes several in any order
    for base in _quantised(model):  # all alike
        told = {_ROUNDING: f"{base.block} {str(base.dtype).removeprefix('torch.')}"}
    save_file(named, folder / WEIGHTS, told)


@torch.no_grad()
def merge_adapter(model: nn.Module, folder: Path) -> None:
    """Put the update that an adapter's folder holds into the model's own weights. Raises UserError where it does not fit them."""
    try:
        found = {name.removeprefix(OF_PEFT): value for name, value in load_file(folder / WEIGHTS).items()}
        with safe_open(folder / WEIGHTS, "pt") as file:
            told = (file.metadata() or {}).get(_ROUNDING)
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = False  # else they are not told from the frozen ones
        inject(model, config)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(str(folder), f"not an adapter of this model: {error}") from None
    known = {name: value.shape for name, value in _weights(model).items()}
    if known != {name: value.shape for name, value in found.items()}:
        raise UserError(str(folder), f"its {WEIGHTS} does not fit its {CONFIG} and the model under it")
    if name := not_finite(found.items()):
        raise NotFinite(str(folder), f"the weight {name} is not finite")
    set_peft_model_state_dict(model, found)
    for name, layer in layers(model).items():
        if told:  # the model that it was trained beside
            block, dtype = told.split()
            layer.base_layer.weight.copy_(rounded(layer.base_layer.weight, int(block), dtype_of(dtype)))
        put(model, name, plain(layer))
    del model.peft_config  # it is a plain model again


def _quantised(model: nn.Module) -> list[Nf4]:
    return [layer.base_layer for layer in layers(model).values() if isinstance(layer.base_layer, Nf4)]


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return get_peft_model_state_dict(model, save_embedding_layers=False)
