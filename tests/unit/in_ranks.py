"""What a module of toys does in each of several processes, as opd_steps.process.launch starts it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from opd_steps.process import ranks
from opd_steps.process.launch import failing_together


def write(names: Iterable[str], found: Callable[[Path, str], dict[str, Tensor]]) -> None:
    """FOLDER/<name>.safetensors of what all processes find, FOLDER being the one argument."""
    with failing_together():
        ranks.join()
        base = Path(sys.argv[1])
        for name in names:
            tensors = found(base, name)
            if ranks.first():
                save_file(tensors, base / f"{name}.safetensors")
        ranks.leave()
