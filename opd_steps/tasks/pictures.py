"""Small clean images: a block of a colour in a quarter of a ground. Who only writes prompts about them needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 8
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "yellow": (1, 1, -1), "magenta": (1, -1, 1)}
CELLS = ("northwest", "northeast", "southwest", "southeast")
GROUNDS = {"dark": -1.0, "grey": 0.0}


def block(colour: str | Sequence[float], cell: int, ground: str = "dark") -> Tensor:
    """A block in a quarter of the image, [3, SIDE, SIDE] in [-1, 1]."""
    import torch

    image, half = torch.full((3, SIDE, SIDE), GROUNDS[ground]), SIDE // 2
    rgb = torch.tensor(COLOURS[colour] if isinstance(colour, str) else colour, dtype=torch.float32)
    down, right = divmod(cell, 2)
    image[:, down * half : (down + 1) * half, right * half : (right + 1) * half] = rgb[:, None, None]
    return image
