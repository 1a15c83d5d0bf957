"""What tensors hold at once, counted operation by operation."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """now, peak: bytes of the storages that were made within it and are still there, and the most of them."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                laid_out = leaf.layout is torch._mkldnn  # oneDNN's own order: no storage that could be asked
                self._count(leaf if laid_out else leaf.untyped_storage())
        return out

    def _count(self, held: torch.Tensor | torch.UntypedStorage) -> None:
        key, size = (id(held), held.nbytes) if isinstance(held, torch.Tensor) else (held._cdata, held.nbytes())
        if key in self.alive:
            return

        def gone(_) -> None:
            self.now -= size
            del self.alive[key]

        self.alive[key] = weakref.ref(held, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
