"""Tensors of a checkpoint in files: of what several ranks hold together each writes its own rows, and reads its own again, whoever wrote them.

The files are safetensors whose headers say where their rows belong in the whole, as torch.distributed.checkpoint's safetensors storage says
it: that can read them, too. (Its own writer makes a second copy of all that a rank writes, as bytes.) One rank's file has no such header.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from opd_steps.process import ranks

HEADER = "DCP_SHARDING_INFO"  # {name: {"saved_offsets": [first row, 0, ...]}}


Own = tuple[dict[str, Tensor], dict[str, dict]]
"""What a rank writes: its rows by name, and the header's entry of each."""


def own(tensors: Mapping[str, Tensor], copy: bool = False) -> Own:
    """This rank's rows. What every rank holds whole is the first's. `copy`: on the CPU, so that the originals may change."""
    mine, header = {}, {}
    for name, tensor in tensors.items():
        if ranks.is_cut(tensor) or ranks.first():
            rows, low = ranks.own_rows(tensor)
            if rows.numel() or not ranks.is_cut(tensor):  # a rank may have none
                mine[name] = rows.to("cpu", copy=True).contiguous() if copy else rows.contiguous()
                header[name] = {"saved_offsets": [low, *[0] * (rows.ndim - 1)][: rows.ndim]}
    return mine, header


def write(folder: Path, part: str, rows: Own) -> None:
    """This rank's file, on the disk when it returns."""
    mine, header = rows
    place = f"-{ranks.rank():05d}-of-{ranks.world():05d}" if ranks.world() > 1 else ""
    file = folder / f"{part}{place}.safetensors"
    save_file(mine, file, {HEADER: json.dumps(header, sort_keys=True)} if place else None)
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


class Stored:
    """The tensors of a part, by name."""

    def __init__(self, files: Iterable):
        places: dict[str, list[tuple]] = defaultdict(list)  # (first row, file)
        for file in files:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            for name in file.keys():  # noqa: SIM118   it is no dict
                low = (header[name]["saved_offsets"] if name in header else [0])[:1]
                places[name].append((low[0] if low else 0, file))
        self.places = {name: sorted(found, key=lambda place: place[0]) for name, found in places.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def read(self, name: str, like: Tensor | None = None) -> Tensor:
        """A tensor; this rank's rows of it, on the same device, where `like` is cut. Raises ValueError where rows are missing."""
        places = self.places[name]
        if like is None or not ranks.is_cut(like):
            pieces = [file.get_tensor(name) for _, file in places]
            whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            return whole if like is None else whole.to(like.device)
        made = torch.empty_like(like)
        rows, first = ranks.own_rows(made)
        missing = len(rows)
        for low, file in places:
            stored = file.get_slice(name)
            start, stop = max(first, low), min(first + len(rows), low + stored.get_shape()[0])
            if start < stop:
                rows[start - first : stop - first].copy_(stored[start - low : stop - low])
                missing -= stop - start
        if missing:
            raise ValueError(f"{missing} rows of {name} are missing")
        return made


@contextmanager
def opened(folder: Path, part: str) -> Iterator[Stored]:
    """A part as it was written, by any number of ranks. Raises ValueError where the file of one of them is missing."""
    files = sorted(folder.glob(f"{part}-[0-9]*-of-[0-9]*.safetensors")) or [folder / f"{part}.safetensors"]
    written = files[0].stem.rpartition("-of-")[2]
    if written.isdigit() and len(files) != int(written):
        raise ValueError(f"{len(files)} files of {int(written)} for {part}")
    with ExitStack() as stack:
        yield Stored([stack.enter_context(safe_open(file, "pt")) for file in files])
