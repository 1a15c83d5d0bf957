"""Pictures as the vision tower of a Qwen-VL model reads them: patches in the order in which it merges them. No torchvision is asked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedConfig

IMAGES, VIDEOS = "preprocessor_config.json", "video_preprocessor_config.json"
GREY = [0.5, 0.5, 0.5]


@dataclass(frozen=True)
class Sight:
    """patch, merge   pixels of a patch's side; patches of the side of what becomes one token
    frames         of a video that become one
    mean, std      of pixels in [0, 1]
    image, video   (least, most) pixels of an image; of a video, all of its frames together
    """

    patch: int
    merge: int
    frames: int
    mean: list[float]
    std: list[float]
    image: tuple[int, int]
    video: tuple[int, int]

    @classmethod
    def of(cls, config: PreTrainedConfig, place: Path) -> Sight:
        """By the files of the checkpoint in `place`, where it has them."""
        vision = config.vision_config
        said = {name: json.loads((place / name).read_text()) if (place / name).is_file() else {} for name in (IMAGES, VIDEOS)}
        sizes = [said[name].get("size", {}) for name in (IMAGES, VIDEOS)]
        image, video = [(size.get("shortest_edge", 0), size.get("longest_edge", 1 << 62)) for size in sizes]
        mean, std = (said[IMAGES].get(f"image_{name}", GREY) for name in ("mean", "std"))
        return cls(vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size, mean, std, image, video)

    def within(self, image: int, video: int) -> Sight:
        """With at most so many pixels of an image, and of a video; 0: as it is."""
        cut = lambda bounds, most: (min(bounds[0], most), min(bounds[1], most)) if most else bounds
        return replace(self, image=cut(self.image, image), video=cut(self.video, video))

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(t, h, w) in patches of what is seen, of `shape` [T, 3, H, W]; T = 1 is an image."""
        count, _, high, wide = shape
        factor, (least, most) = self.patch * self.merge, self.image if count == 1 else self.video
        h, w = (max(round(side / factor), 1) * factor for side in (high, wide))
        paced = 1 if count == 1 else max(round(count / self.frames), 1) * self.frames
        if paced * h * w > most:
            by = math.sqrt(count * high * wide / most)
            h, w = (max(factor, math.floor(side / by / factor) * factor) for side in (high, wide))
        elif paced * h * w < least:
            by = math.sqrt(least / (count * high * wide))
            h, w = (math.ceil(side * by / factor) * factor for side in (high, wide))
        return -(-count // self.frames), h // self.patch, w // self.patch

    def patches(self, seen_TCHW: Tensor) -> Tensor:
        """[t * h * w, 3 * frames * patch * patch] of bytes; neighbours that are merged stand one behind the other, the last frame is
        repeated to a whole number."""
        t, h, w = self.grid(tuple(seen_TCHW.shape))
        mean, std = (torch.tensor(x)[:, None, None] for x in (self.mean, self.std))
        found = (_sized(seen_TCHW, h * self.patch, w * self.patch).float() / 255 - mean) / std
        found = torch.cat([found, found[-1:].expand(t * self.frames - len(found), -1, -1, -1)])
        m, p = self.merge, self.patch
        found = found.view(t, self.frames, 3, h // m, m, p, w // m, m, p).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
        return found.reshape(t * h * w, -1)

    def times(self, count: int, rate: float) -> list[float]:
        """Seconds of each t: the middle between its first frame and its last."""
        at = [min(i, count - 1) / rate for i in range(-(-count // self.frames) * self.frames)]
        return [(at[i] + at[i + self.frames - 1]) / 2 for i in range(0, len(at), self.frames)]


def _sized(seen_TCHW: Tensor, high: int, wide: int) -> Tensor:
    """As the library's own Pil processors do it."""
    if tuple(seen_TCHW.shape[-2:]) == (high, wide):
        return seen_TCHW
    frames = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in seen_TCHW.cpu()]
    made = [np.array(frame.resize((wide, high), Image.Resampling.BICUBIC)) for frame in frames]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)
