"""A robot's policy: contexts are an instruction and an image, decisions are tokens of an action; an episode is a row of many actions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.special import leading_ids
from opd_steps.models.tokenizers import encode
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng

PREPROCESSOR = "preprocessor_config.json"
GREY = ([0.5] * 3, [0.5] * 3)  # mean and deviation of pixels where no file says them


class VLAPolicy:
    """A context is {prompt: text, image: [3, H, W] uint8}. Columns of a row with T actions: extra["seen"] [T, 3, H, W], what was seen
    before each; its decisions are their T * dims tokens, as numbers of bins. `sampling`: max_new_tokens is the budget of an episode.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        family: Any,
        sampling: Mapping | None = None,
        batch: int = 256,
    ):
        self.model, self.tokenizer, self.family, self.batch = model, tokenizer, family, batch
        self.temperature, self.max_new_tokens = 1.0, family.dims
        head = model.get_output_embeddings().weight
        self.first = len(head) - family.bins  # token of bin 0
        self.side = model.config.vision_config.image_size
        self._texts: dict[str, list[int]] = {}
        if sampling:
            self.sample_by(sampling)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def sample_by(self, sampling: Mapping) -> None:
        if sampling.get("top_p", 1.0) != 1:
            raise UserError("sampling.top_p", "an action's bins have no tail to cut: expected 1")
        self.temperature, self.max_new_tokens = sampling["temperature"], sampling["max_new_tokens"]

    @property
    def horizon(self) -> int:
        """Actions of an episode at most. Raises UserError for a budget without any."""
        if self.max_new_tokens < self.family.dims:
            raise UserError(
                "max_new_tokens", f"an action is {self.family.dims} tokens, found a budget of {self.max_new_tokens}"
            )
        return self.max_new_tokens // self.family.dims

    @cached_property
    def seen_as(self) -> dict[str, str]:
        """The file that says how pixels are scaled, where the checkpoint has one."""
        file = Path(self.model.config._name_or_path) / PREPROCESSOR
        return {PREPROCESSOR: file.read_text(encoding="utf-8")} if file.is_file() else {}

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        said = json.loads(self.seen_as.get(PREPROCESSOR, "{}"))
        both = (said["image_mean"], said["image_std"]) if "image_mean" in said else GREY
        return tuple(torch.tensor(x, device=self.device)[:, None, None] for x in both)

    def pixels(self, image_NCHW: Tensor) -> Tensor:
        """Bytes as the vision tower wants them, [N, 3, side, side]."""
        mean, std = self._scale
        found = image_NCHW.to(self.device).float() / 255
        if found.shape[-1] != self.side or found.shape[-2] != self.side:
            found = torch.nn.functional.interpolate(found, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        return (found - mean) / std

    @cached_property
    def _image_tokens(self) -> list[int]:
        """As many as the vision tower makes of an image."""
        with torch.no_grad():
            blank = torch.zeros(1, 3, self.side, self.side, device=self.device)
            layer, select = (getattr(self.model.config, f"vision_feature_{name}") for name in ("layer", "select_strategy"))
            made = self.model.get_image_features(blank, vision_feature_layer=layer, vision_feature_select_strategy=select)
        return [self.model.config.image_token_id] * made.pooler_output[0].shape[0]

    def _text(self, prompt: str) -> list[int]:
        if prompt not in self._texts:
            said = encode(self.tokenizer, self.family.template.format(prompt=prompt))
            self._texts[prompt] = [*leading_ids(self.tokenizer), *self._image_tokens, *said]
        return self._texts[prompt]

    def _logits(self, prompts: Sequence[str], image_NCHW: Tensor, said_NA: Tensor) -> Tensor:
        """Of the action's next token behind each of those that are said already, [N, A + 1, bins]."""
        texts = [self._text(prompt) for prompt in prompts]
        ends_N, count = torch.tensor([len(text) for text in texts]), said_NA.shape[1]
        tokens_NL = torch.full(
            (len(texts), int(ends_N.max()) + count), self.tokenizer.pad_token_id
        )  # causal: none sees what follows
        for row_L, text, said_A in zip(tokens_NL, texts, self.first + said_NA, strict=True):
            row_L[: len(text)] = torch.tensor(text)
            row_L[len(text) : len(text) + count] = said_A
        made = self.model.model(input_ids=tokens_NL.to(self.device), pixel_values=self.pixels(image_NCHW), use_cache=False)
        at_NA = (ends_N - 1)[:, None] + torch.arange(count + 1)
        hidden_NAD = made.last_hidden_state[torch.arange(len(texts))[:, None], at_NA]
        return torch.nn.functional.linear(hidden_NAD, self.model.get_output_embeddings().weight[self.first :]).float()

    @torch.no_grad()
    def rollout(
        self, contexts: Sequence[dict], prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0
    ) -> Trajectory:
        """One action on every context: a row of `dims` decisions."""
        parts = [
            self._act(
                list(contexts[i : i + self.batch]), list(prompt_ids[i : i + self.batch]), seeds[i : i + self.batch], version
            )
            for i in range(0, len(contexts), self.batch)
        ]
        return Trajectory.concat(parts)

    def _act(self, contexts: list[dict], prompt_ids: list[int], seeds: Sequence[int], version: int) -> Trajectory:
        image_NCHW, prompts = torch.stack([c["image"] for c in contexts]), [c["prompt"] for c in contexts]
        chance_NA = torch.from_numpy(np.stack([rng(seed).random(self.family.dims) for seed in seeds]))
        said_NA, logp = torch.zeros(len(contexts), 0, dtype=torch.long), []
        for k in range(self.family.dims):
            dist = Categorical.from_logits(self._logits(prompts, image_NCHW, said_NA)[:, -1], self.temperature or 1.0)
            if self.temperature:
                below_N = (dist.prob_NV.cpu().double().cumsum(-1) < chance_NA[:, k : k + 1]).sum(-1)
                bin_N = below_N.clamp(max=self.family.bins - 1)
            else:
                bin_N = dist.logp_NV.argmax(-1).cpu()
            said_NA = torch.cat([said_NA, bin_N[:, None]], 1)
            logp.append(dist.logp(bin_N.to(self.device)).cpu())
        return Trajectory(
            contexts,
            list(said_NA),
            torch.tensor(prompt_ids),
            list(torch.stack(logp, 1)),
            version_B=torch.full((len(contexts),), version),
            ended_B=torch.ones(len(contexts), dtype=torch.bool),
            extra={"seen": [image[None] for image in image_NCHW]},
        )

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> Categorical:
        contexts = trajectory.extra.get(f"context:{role}", trajectory.contexts)
        seen = trajectory.extra["seen"]
        prompts = [c["prompt"] for c, images in zip(contexts, seen, strict=True) for _ in images]
        said_NA = torch.cat(list(trajectory.actions)).view(-1, self.family.dims)
        logits_NAV = self._logits(prompts, torch.cat(list(seen)), said_NA[:, :-1])
        return Categorical.from_logits(logits_NAV.flatten(0, 1), self.temperature or 1.0)
