"""Checkpoints without pickle: weights and optimizer moments as safetensors, the rest as JSON; written aside, then renamed.

Of several ranks each writes and reads its own rows alone (loop.shards), and any number of them goes on from what another one wrote.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from opd_steps.errors import NotFinite, UserError
from opd_steps.loop import shards
from opd_steps.loop.optim import blank
from opd_steps.process import ranks
from opd_steps.process.finite import not_finite
from opd_steps.store.files import remove

_PREFIX = "checkpoint-"
Trained = Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]
"""Model and optimizer of each learner by name; "" is the main one."""


def save(work: Path, step: int, trained: Trained, state: dict) -> None:
    """Write checkpoint-<step> and drop the older ones. `state`: lists of states of controllers and hooks, each a flat dict of
    JSON-able values and tensors.

    There is no RNG state: all randomness is a function of seed and step (opd_steps.seeds). Raises NotFinite, and writes nothing, for a
    weight, a moment or a plain value of a state that is not finite. (Tensors of a state may hold nan: rewards of rows that nobody judged.)
    """
    plain, parts = collected(work, trained, state)
    scratch = begun(work)
    for name, part in parts.items():
        shards.write(scratch, name, shards.own(part))
    finish(work, step, plain)


def collected(work: Path, trained: Trained, state: dict) -> tuple[dict, dict[str, dict[str, torch.Tensor]]]:
    """(what is plain, tensors by part) of a checkpoint. Raises NotFinite."""
    plain, tensors = _apart(state)
    parts = {"state": tensors}
    for learner, (model, optimizer) in trained.items():
        names = _names(model, optimizer)
        moments = {f"{names[p]}.{key}": value for p, entry in optimizer.state.items() for key, value in entry.items()}
        parts |= {_part("model", learner): _weights(model), _part("optimizer", learner): moments}
    _require_finite(work, [item for name, part in parts.items() if name != "state" for item in part.items()], plain)
    return plain, parts


def begun(work: Path) -> Path:
    """An empty folder for the parts of the next checkpoint."""
    scratch = work / f"{_PREFIX}tmp"
    if ranks.first():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
    ranks.gather(None)  # nobody writes before the place is clean
    return scratch


def finish(work: Path, step: int, plain: dict) -> None:
    """Name a checkpoint whose parts are on the disk."""
    ranks.gather(None)  # all parts are there
    if ranks.first():
        _finish(work, step, work / f"{_PREFIX}tmp", plain)
    ranks.gather(None)  # nobody goes on, or away, before it bears its name


def _require_finite(work: Path, tensors: list[tuple[str, torch.Tensor]], plain: dict) -> None:
    name = not_finite(tensors)
    try:
        json.dumps(plain, allow_nan=False)
    except ValueError:
        name = name or "the state of a controller or hook"
    if name:
        raise NotFinite(str(work), f"{name} is not finite in the checkpoint to be written")


def _finish(work: Path, step: int, scratch: Path, plain: dict) -> None:
    final, state = work / f"{_PREFIX}{step:08d}", scratch / "state.json"
    state.write_text(json.dumps({"step": step, **plain}))
    with state.open("rb") as handle:
        os.fsync(handle.fileno())
    os.rename(scratch, final)
    for old in work.glob(f"{_PREFIX}[0-9]*"):
        if old != final:
            remove(old)


def newest(work: Path) -> Path | None:
    """The newest complete checkpoint's folder."""
    return max(work.glob(f"{_PREFIX}[0-9]*"), default=None)


def load(work: Path, trained: Trained, like: Mapping[str, list[dict]] | None = None) -> dict | None:
    """Restore the newest complete checkpoint in place and return its state (with "step"); None if there is none. `like`: the states as
    they are now; a tensor that ranks share there comes back so."""
    folder = newest(work)
    if folder is None:
        return None
    try:
        state = json.loads((folder / "state.json").read_text())
        for learner, (model, optimizer) in trained.items():
            _restore(folder, learner, model, optimizer)
        now = _tensors(like or {})
        with shards.opened(folder, "state") as stored:
            for name in stored:
                group, index, key = name.split("/", 2)
                state[group][int(index)][key] = stored.read(name, now.get(name))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(str(folder), f"this checkpoint is damaged ({error}); delete it and run again") from None
    return state


@torch.no_grad()
def _restore(folder: Path, learner: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    with shards.opened(folder, _part("model", learner)) as stored:
        for name, tensor in _weights(model).items():
            tensor.copy_(stored.read(name, tensor))
    named = {name: p for p, name in _names(model, optimizer).items()}
    with shards.opened(folder, _part("optimizer", learner)) as stored:
        for full in stored:  # none before the first update
            name, _, key = full.rpartition(".")
            p = named[name]
            held = optimizer.state[p]
            if not held:
                held |= blank(optimizer, p)  # of which each is read next
            held[key] = stored.read(full).to(p.device) if key == "step" else stored.read(full, held[key])


def _part(what: str, learner: str) -> str:
    return f"{what}.{learner}" if learner else what


def _apart(state: Mapping[str, list[dict]]) -> tuple[dict, dict[str, torch.Tensor]]:
    """(JSON-able part, tensors named group/index/key)."""
    tensors = {
        name: value if ranks.is_cut(value) else value.cpu().contiguous().clone() for name, value in _tensors(state).items()
    }
    plain = {
        group: [{k: v for k, v in entry.items() if not isinstance(v, torch.Tensor)} for entry in entries]
        for group, entries in state.items()
    }
    return plain, tensors


def _tensors(state: Mapping[str, list[dict]]) -> dict[str, torch.Tensor]:
    return {
        f"{group}/{i}/{key}": value.detach()
        for group, entries in state.items()
        for i, entry in enumerate(entries)
        for key, value in entry.items()
        if isinstance(value, torch.Tensor)
    }


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """What is trained: a frozen weight is where the training began from. Tied parameters appear once."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, str]:
    trained = {id(p) for g in optimizer.param_groups for p in g["params"]}
    return {p: name for name, p in model.named_parameters() if id(p) in trained}
