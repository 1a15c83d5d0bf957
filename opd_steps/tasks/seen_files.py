"""Pictures and videos as they lie in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from opd_steps.errors import UserError


def image(file: Path, box: list[int] | None = None) -> Tensor:
    """[1, 3, H, W] uint8; `box`: of left, top, right, bottom, that part alone. Raises UserError for what is no image."""
    return _read(file, box)[None]


def image_shape(file: Path, box: list[int] | None = None) -> tuple[int, ...]:
    """That of `image`, by the file's head."""
    wide, high = (box[2] - box[0], box[3] - box[1]) if box else _opened(file).size
    return 1, 3, high, wide


def video(folder: Path, most: int) -> Tensor:
    """Its frames, files in the order of their names, [T, 3, H, W] uint8. Raises UserError for none, and for more than `most`."""
    return torch.stack([_read(file) for file in _frames(folder, most)])


def video_shape(folder: Path, most: int) -> tuple[int, ...]:
    """That of `video`, by the head of its first frame."""
    first, *rest = _frames(folder, most)
    wide, high = _opened(first).size
    return 1 + len(rest), 3, high, wide


def _frames(folder: Path, most: int) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    if not 2 <= len(files) <= most:
        raise UserError(str(folder), f"expected 2 to {most} frames, found {len(files)}: cut longer videos at a lower rate")
    return files


def _opened(file: Path) -> Image.Image:
    """With nothing but its head read, and the file closed."""
    try:
        with Image.open(file) as found:
            return found
    except OSError as error:
        raise UserError(str(file), f"not a readable image: {error}") from None


def _read(file: Path, box: list[int] | None = None) -> Tensor:
    try:
        with Image.open(file) as found:
            picture = found.convert("RGB")
    except OSError as error:
        raise UserError(str(file), f"not a readable image: {error}") from None
    return torch.from_numpy(np.array(picture.crop(box) if box else picture)).permute(2, 0, 1).contiguous()
