"""Pictures with words beside them as one file: what was seen, what was said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

GAP, WORDS, LINE = 6, 180, 14  # pixels between pictures; of the width of the words; of a line of them
INK = {True: (0, 110, 40), False: (180, 20, 20), None: (20, 20, 20)}  # right, wrong, neither

Strip = tuple[Sequence[Tensor], Sequence[tuple[str, bool | None]]]
"""(pictures [3, H, W] uint8, lines of words, each right, wrong or neither)"""


def write_strips(file: Path, strips: Sequence[Strip], times: int = 1) -> None:
    """A strip below the other, as a PNG; pixels of pictures are `times` as large."""
    rows = [_drawn(pictures, lines, times) for pictures, lines in strips]
    made = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        made.paste(row, (0, top))
        top += row.height
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save(file)


def _drawn(pictures: Sequence[Tensor], lines: Sequence[tuple[str, bool | None]], times: int) -> Image.Image:
    images = [Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in pictures]
    images = [image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST) for image in images]
    high = max(*(image.height for image in images), LINE * len(lines)) + GAP
    made = Image.new("RGB", (sum(image.width + GAP for image in images) + WORDS, high), "white")
    left = 0
    for image in images:
        made.paste(image, (left, 0))
        left += image.width + GAP
    draw = ImageDraw.Draw(made)
    for i, (words, right) in enumerate(lines):
        draw.text((left, i * LINE), words, fill=INK[right])
    return made
