"""Images side by side as one file."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

PER_ROW, SCALE = 8, 6  # images side by side; pixels of the file for one of a small image


def write_grid(file: Path, image_BCHW: Tensor, per_row: int = PER_ROW, line: float = 1.0) -> None:
    """Images in [-1, 1] side by side, with a `line` between them, 1 = white, as a PNG; small ones enlarged."""
    rows = [torch.cat(list(part), -1) for part in torch.nn.functional.pad(image_BCHW, (1, 0, 1, 0), value=line).split(per_row)]
    wide = rows[0].shape[-1]
    grid = torch.cat([torch.nn.functional.pad(row, (0, wide - row.shape[-1]), value=line) for row in rows], 1)
    pixels = ((grid.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels)
    factor = SCALE if image_BCHW.shape[-1] < 64 else 1
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(file)
