"""OpenVLA as a robot's policy: two towers that see each image their own way, and tokens that are quantiles of demonstrated motions."""

from __future__ import annotations

import json
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.models.vla_policy import GREY, PREPROCESSOR, VLAPolicy

STATISTICS = "dataset_statistics.json"
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # what DINOv2 was trained on; SigLIP on GREY


class OpenVLAPolicy(VLAPolicy):
    """Patches are put behind a text's first token by the model itself. The last dimension of a motion is the gripper."""

    BESIDE = (PREPROCESSOR, STATISTICS)

    @property
    def _padding(self) -> int:
        return self.model.config.pad_to_multiple_of

    @property
    def _side(self) -> int:
        return self.model.config.image_sizes[0]

    @cached_property
    def _scales(self) -> list[tuple[Tensor, Tensor]]:
        said = json.loads(self.seen_as.get(PREPROCESSOR, "{}"))
        pairs = zip(said["means"], said["stds"], strict=True) if "means" in said else (IMAGENET, GREY)
        return [tuple(torch.tensor(x, device=self.device)[:, None, None] for x in pair) for pair in pairs]

    def _picture_tokens(self) -> list[int]:
        return []

    def _beside(self, there_NL: Tensor, asked_NL: Tensor) -> dict[str, Tensor]:
        return {"there": there_NL, "silent": asked_NL} if self.family.at_once else {}

    @cached_property
    def range(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the demonstrated motions: 1 % and 99 % quantile of each dimension, and which are scaled by them, [dims]. Raises UserError."""
        known = dict(self.model.config.norm_stats or {}) | json.loads(self.seen_as.get(STATISTICS, "{}"))
        name, dims = self.family.statistics, self.family.dims
        if not known and name is None:  # a fresh model has seen none
            return -np.ones(dims), np.ones(dims), np.arange(dims) < dims - 1
        name = name or (next(iter(known)) if len(known) == 1 else None)
        if name not in known:
            raise UserError("family.statistics", f"expected one of {', '.join(sorted(known)) or 'none'}, found {name}")
        found = known[name]["action"]
        low, high = np.array(found["q01"]), np.array(found["q99"])
        if len(low) != dims:
            raise UserError("family.dims", f"motions of {name} have {len(low)} dimensions, found {dims}")
        return low, high, np.array(found.get("mask", [True] * dims))

    def motions(self, action_K: Tensor) -> np.ndarray:
        """[K / dims, dims]: the centre of each bin, a step of the range's 255th part; the gripper 1 to close it, -1 to open.

        Bins count from the end of the vocabulary, of 255 spaces between 256 edges in [-1, 1]: the first and the second token are one.
        """
        edges = np.linspace(-1, 1, self.family.bins)
        spaces = (edges[:-1] + edges[1:]) / 2
        last = self.family.bins - 1
        value = spaces[np.clip(last - action_K.numpy(), 0, last - 1)].reshape(-1, self.family.dims)
        low, high, scaled = self.range
        value = np.where(scaled, (value + 1) / 2 * (high - low) + low, value)
        value[:, -1] = -np.sign(2 * value[:, -1] - 1)
        return value
