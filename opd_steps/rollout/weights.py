"""A model's weights on their way into an engine of another process: whole ones, one after the other, never all at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import torch
from safetensors.torch import save
from torch import Tensor

from opd_steps.nouns.adapted import merged
from opd_steps.process import ranks

MOST = 256 << 20  # bytes in one file, unless a single weight has more


@torch.no_grad()
def whole(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """All weights by their names in a checkpoint, tied ones twice, an adapter merged into them: on the first rank, as copies on the CPU.

    Each rank must go through all of them, for sharded ones are gathered; the others get nothing.
    """
    with merged(model):
        for name, weight in model.state_dict().items():
            value = ranks.full(weight)
            if ranks.first():
                yield name, value.to("cpu", dtype if value.is_floating_point() else value.dtype, copy=True)


def in_files(weights: Iterable[tuple[str, Tensor]], most: int = MOST) -> Iterator[str]:
    """Paths of safetensors files in memory, each there until the next one is asked for. They end with this process, however it ends."""
    held: dict[str, Tensor] = {}
    size = 0
    for name, value in weights:
        held[name], size = value, size + value.nbytes
        if size >= most:
            yield from _file(held)
            held, size = {}, 0
    if held:
        yield from _file(held)


def _file(tensors: dict[str, Tensor]) -> Iterator[str]:
    place = os.memfd_create("weights")
    try:
        with os.fdopen(os.dup(place), "wb") as file:
            file.write(save(tensors))
        yield f"/proc/{os.getpid()}/fd/{place}"
    finally:
        os.close(place)
