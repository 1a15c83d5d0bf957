"""A model that several processes hold together, without any of them ever holding it whole: made without weights, cut, and then each part
read from the files.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from opd_steps.errors import NotFinite
from opd_steps.models.folder import read_model
from opd_steps.process import ranks
from opd_steps.process.finite import not_finite


def hollow_model(path: str, auto: type = AutoModelForCausalLM, **how) -> PreTrainedModel | None:
    """The model of a checkpoint's folder with weights on the meta device, judged by names and shapes; None where its files name weights
    otherwise than the model does, so that these must be made from them all. `auto`: transformers' class that knows such models; `how`: of
    from_pretrained. Raises UserError.
    """
    from accelerate import init_empty_weights  # slow to import, and for several processes alone

    model = read_model(path, auto=auto, device_map="meta", **how)
    files = _files(path)
    if not all(_alias(names, files) for names in _aliases(model)):
        print(f"{path}: each process reads the whole model, for its files name weights as an older version did", flush=True)
        return None
    with init_empty_weights(include_buffers=False):  # buffers are not in the files: a model makes them
        full = auto.from_config(AutoConfig.from_pretrained(path))
    for name, buffer in full.named_buffers():
        where, _, leaf = name.rpartition(".")
        model.get_submodule(where)._buffers[leaf] = buffer
    return model.eval()


def fill(model: PreTrainedModel, path: str) -> None:
    """Read this process's part of every weight of a model that was hollow and is cut now (ranks.shard). Raises NotFinite."""
    model._apply(lambda t: torch.empty_like(t, device=ranks.device()) if t.is_meta else t.to(ranks.device()))
    files = _files(path)
    with ExitStack() as stack, torch.no_grad():
        opened = {file: stack.enter_context(safe_open(file, "pt")) for file in set(files.values())}
        parameters = dict(model.named_parameters())
        for names in _aliases(model):
            stored = _alias(names, files)
            mine = parameters[next(name for name in names if name in parameters)]
            ranks.read_part(mine, opened[files[stored]].get_slice(stored))
    if name := not_finite(model.named_parameters()):
        raise NotFinite(path, f"the weight {name} is not finite")


def _aliases(model: PreTrainedModel) -> list[list[str]]:
    """The names of each weight and stored buffer; tied ones have several."""
    found: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), []).append(name)
    return list(found.values())


def _alias(names: list[str], files: dict[str, Path]) -> str | None:
    return next((name for name in names if name in files), None)


def _files(path: str) -> dict[str, Path]:
    """Weight -> the file that holds it."""
    found = {}
    for file in sorted(Path(path).glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            found |= dict.fromkeys(weights.keys(), file)
    return found
