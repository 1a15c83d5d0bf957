"""OpenVLA and OpenVLA-OFT: policies of a robot whose tokens are motions by the statistics of the demonstrations that taught them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from transformers import PreTrainedModel

from opd_steps.errors import UserError
from opd_steps.models.families.vla import VLA
from opd_steps.models.fields import require_fields
from opd_steps.models.openvla import OpenVLAConfig, OpenVLAForActionPrediction
from opd_steps.models.openvla_policy import OpenVLAPolicy

OWN = ("vocab_size", "n_action_bins", "pad_to_multiple_of")  # follow from the tokenizer and the bins


@dataclass(frozen=True)
class OpenVLA(VLA):
    """`path`, a checkpoint of OpenVLA's form (arXiv 2406.09246), or a fresh model of `config` (fields of models.openvla's OpenVLAConfig) that
    reads bytes. One look tells `chunk` motions; with `parallel` their tokens are asked for all at once, and every token sees every other
    (OpenVLA-OFT, arXiv 2502.19645, with discrete tokens, as SimpleVLA-RL and RLinf train it); without, one follows the other.

    Two can be compared when their motions are the same: dimensions, bins, chunk and statistics.
    """

    READS: ClassVar[tuple[str, ...]] = ("path", "revision", "config")
    PARALLEL: ClassVar[bool] = True
    ADAPTS: ClassVar[bool] = True
    NUMERICS: ClassVar[bool] = True
    LACKS: ClassVar[tuple[str, ...]] = ("packed", "micro_tokens")
    CHECKS: ClassVar[tuple[str, ...]] = ("'{prompt}' in template", "parallel or chunk == 1")

    dims: Annotated[int, "at least 1"] = 7  # of a motion: place, rotation, gripper
    bins: Annotated[int, "at least 3"] = 256  # of each, from the last token backwards
    template: str = "In: What action should the robot take to {prompt}?\nOut: "  # {prompt} in small letters
    chunk: Annotated[int, "at least 1"] = 8  # motions for one look
    parallel: bool = True
    statistics: str | None = None  # data set in the checkpoint's norm_stats (its unnorm_key); None: the only one

    @property
    def tokens(self) -> int:
        return self.chunk * self.dims

    @property
    def acts(self) -> type[OpenVLAPolicy]:
        return OpenVLAPolicy

    @property
    def at_once(self) -> bool:
        return self.parallel

    def told(self, prompt: str) -> str:
        return self.template.format(prompt=prompt.lower())

    @property
    def form(self) -> str:
        return "OpenVLA's form"

    def _fresh(self, config: dict, text: dict, words: int) -> PreTrainedModel:
        if known := sorted(set(OWN) & (config.keys() | text.keys())):
            raise UserError(f"config.{known[0]}", "it follows from the family's bins: leave it out")
        text["vocab_size"] = words + self.bins
        require_fields(config, OpenVLAConfig())
        own = {"text_config": text, "n_action_bins": self.bins, "pad_to_multiple_of": 0}
        return OpenVLAForActionPrediction(OpenVLAConfig(**config | own))

    def _require(self, folder: Path, path: str) -> None:
        config = json.loads((folder / "config.json").read_text())
        if (found := config["model_type"]) != OpenVLAConfig.model_type:
            raise UserError(path, f"expected a model of type {OpenVLAConfig.model_type}, found {found}")
        if (bins := config.get("n_action_bins", 256)) != self.bins:
            raise UserError("family.bins", f"this checkpoint has {bins}, found {self.bins}")

    def identity(self, policy: OpenVLAPolicy) -> dict:
        low, high, scaled = policy.range
        motions = {"dims": self.dims, "bins": self.bins, "chunk": self.chunk}
        return {"motions": motions | {"low": low.tolist(), "high": high.tolist(), "scaled": scaled.tolist()}}
