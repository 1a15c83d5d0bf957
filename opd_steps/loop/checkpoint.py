"""Checkpoints without pickle: weights and optimizer moments as safetensors, the rest as JSON; written aside, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from opd_steps.errors import NotFinite, UserError
from opd_steps.process import ranks
from opd_steps.process.finite import not_finite
from opd_steps.store.files import remove

_PREFIX = "checkpoint-"
Trained = Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]
"""Model and optimizer of each learner by name; "" is the main one."""


def save(work: Path, step: int, trained: Trained, state: dict) -> None:
    """Write checkpoint-<step> and drop the older ones. `state`: lists of states of controllers and hooks, each a flat dict of
    JSON-able values and tensors.

    There is no RNG state: all randomness is a function of seed and step (opd_steps.seeds). Of several ranks the first one writes whole
    tensors, so that any number of them can read them. Raises NotFinite, and writes nothing, for a weight, a moment or a plain value of
    a state that is not finite. (Tensors of a state may hold nan: rewards of rows that nobody judged.)
    """
    plain, tensors = _apart(state)
    parts = {"state": tensors}
    for learner, (model, optimizer) in trained.items():
        names = _names(model, optimizer)
        moments = {f"{names[p]}.{key}": value for p, entry in optimizer.state.items() for key, value in entry.items()}
        parts |= {_part("model", learner): _weights(model), _part("optimizer", learner): moments}
    _require_finite(work, [item for name, part in parts.items() if name != "state" for item in part.items()], plain)
    parts = {name: ranks.for_writing(part) for name, part in parts.items()}
    if ranks.first():
        _write(work, step, parts, plain)
    ranks.gather(None)  # nobody goes on, or away, before it is there


def _require_finite(work: Path, tensors: list[tuple[str, torch.Tensor]], plain: dict) -> None:
    name = not_finite(tensors)
    try:
        json.dumps(plain, allow_nan=False)
    except ValueError:
        name = name or "the state of a controller or hook"
    if name:
        raise NotFinite(str(work), f"{name} is not finite in the checkpoint to be written")


def _write(work: Path, step: int, parts: dict[str, dict[str, torch.Tensor]], plain: dict) -> None:
    scratch, final = work / f"{_PREFIX}tmp", work / f"{_PREFIX}{step:08d}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name, part in parts.items():
        save_file({key: value.contiguous() for key, value in part.items()}, scratch / f"{name}.safetensors")
    (scratch / "state.json").write_text(json.dumps({"step": step, **plain}))
    for path in scratch.iterdir():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    os.rename(scratch, final)
    for old in work.glob(f"{_PREFIX}[0-9]*"):
        if old != final:
            remove(old)


def newest(work: Path) -> Path | None:
    """The newest complete checkpoint's folder."""
    return max(work.glob(f"{_PREFIX}[0-9]*"), default=None)


def load(work: Path, trained: Trained) -> dict | None:
    """Restore the newest complete checkpoint in place and return its state (with "step"); None if there is none."""
    folder = newest(work)
    if folder is None:
        return None
    try:
        names = ["state", *(_part(part, learner) for learner in trained for part in ("model", "optimizer"))]
        parts = {name: load_file(folder / f"{name}.safetensors") for name in names}
        state = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(str(folder), f"this checkpoint is damaged ({error}); delete it and run again") from None
    for learner, (model, optimizer) in trained.items():
        _restore(model, optimizer, parts[_part("model", learner)], parts[_part("optimizer", learner)])
    for name, tensor in parts["state"].items():
        group, index, key = name.split("/", 2)
        state[group][int(index)][key] = tensor
    return state


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict, moments: dict) -> None:
    with torch.no_grad():
        for name, tensor in _weights(model).items():
            tensor.copy_(ranks.cut_like(weights[name], tensor))
    for p, name in _names(model, optimizer).items():
        keys = {k.rsplit(".", 1)[1]: k for k in moments if k.rsplit(".", 1)[0] == name}
        if keys:  # none before the first update
            optimizer.state[p] = {
                key: moments[full].to(p.device) if key == "step" else ranks.cut_like(moments[full], p)
                for key, full in keys.items()
            }


def _part(what: str, learner: str) -> str:
    return f"{what}.{learner}" if learner else what


def _apart(state: dict[str, list[dict]]) -> tuple[dict, dict[str, torch.Tensor]]:
    """(JSON-able part, tensors named group/index/key)."""
    tensors = {
        f"{group}/{i}/{key}": ranks.full(value.detach()).cpu().contiguous().clone()
        for group, entries in state.items()
        for i, entry in enumerate(entries)
        for key, value in entry.items()
        if isinstance(value, torch.Tensor)
    }
    plain = {
        group: [{k: v for k, v in entry.items() if not isinstance(v, torch.Tensor)} for entry in entries]
        for group, entries in state.items()
    }
    return plain, tensors


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """What is trained: a frozen weight is where the training began from. Tied parameters appear once."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, str]:
    trained = {id(p) for g in optimizer.param_groups for p in g["params"]}
    return {p: name for name, p in model.named_parameters() if id(p) in trained}
