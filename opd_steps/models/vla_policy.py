"""A robot's policy: contexts are an instruction and an image, decisions are tokens of an action; an episode is a row of many actions."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.bases import Base
from opd_steps.models.numerics import FP32, Numerics, computing, dtype_of
from opd_steps.models.special import leading_ids
from opd_steps.models.tokenizers import encode
from opd_steps.nouns.adapted import switched_off
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.seeds import rng

PREPROCESSOR = "preprocessor_config.json"
GREY = ([0.5] * 3, [0.5] * 3)  # mean and deviation of pixels where no file says them


class VLAPolicy:
    """A context is {prompt: text, image: [3, H, W] uint8}. Columns of a row that looked T times: extra["seen"] [T, 3, H, W], what was seen
    each time; its decisions are the tokens of the motions behind these looks, as numbers of bins, but for motions that came too late.
    `sampling`: max_new_tokens is the budget of an episode.
    """

    BESIDE = (PREPROCESSOR,)
    """Files of a checkpoint that are published with the model."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        family: Any,
        sampling: Mapping | None = None,
        batch: int = 256,
        numerics: Numerics = FP32,
        base: Base | None = None,
    ):
        self.model, self.tokenizer, self.family, self.batch = model, tokenizer, family, batch
        self.numerics, self.compute = numerics, dtype_of(numerics.compute)
        self.base, self._view = base, nullcontext  # what an adapter stands on; what is set aside while the model is asked
        self.temperature, self.max_new_tokens = 1.0, family.tokens
        self.first = len(model.get_output_embeddings().weight) - family.bins - self._padding  # token of bin 0
        self._texts: dict[str, list[int]] = {}
        with torch.no_grad(), ranks.whole(model):
            self._pictured = self._picture_tokens()
        if sampling:
            self.sample_by(sampling)

    @property
    def _padding(self) -> int:
        """Words of the vocabulary behind the last bin."""
        return 0

    @property
    def device(self) -> torch.device:
        return self.model.device

    def begun(self) -> VLAPolicy:
        """What the training of an adapter began from, of the same weights in memory: it never moves."""
        start = copy.copy(self)
        start._view = switched_off
        return start

    def sample_by(self, sampling: Mapping) -> None:
        if sampling.get("top_p", 1.0) != 1:
            raise UserError("sampling.top_p", "an action's bins have no tail to cut: expected 1")
        self.temperature, self.max_new_tokens = sampling["temperature"], sampling["max_new_tokens"]

    @property
    def horizon(self) -> int:
        """How often an episode looks at most. Raises UserError for a budget without any."""
        if self.max_new_tokens < (tokens := self.family.tokens):
            raise UserError("max_new_tokens", f"an action is {tokens} tokens, found a budget of {self.max_new_tokens}")
        return self.max_new_tokens // self.family.tokens

    def motions(self, action_K: Tensor) -> np.ndarray:
        """What the tokens of one look mean to a robot, [K / dims, dims] in [-1, 1]: evenly, none in the middle."""
        far = self.family.bins // 2
        return (action_K.view(-1, self.family.dims).double().numpy() - far) / far

    @cached_property
    def seen_as(self) -> dict[str, str]:
        """The files that say how pixels and motions are scaled, where the checkpoint has them."""
        files = {name: Path(self.model.config._name_or_path) / name for name in self.BESIDE}
        return {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()}

    @property
    def _side(self) -> int:
        return self.model.config.vision_config.image_size

    @cached_property
    def _scales(self) -> list[tuple[Tensor, Tensor]]:
        """Mean and deviation of pixels, [3, 1, 1], for each tower that sees them."""
        said = json.loads(self.seen_as.get(PREPROCESSOR, "{}"))
        both = (said["image_mean"], said["image_std"]) if "image_mean" in said else GREY
        return [tuple(torch.tensor(x, device=self.device)[:, None, None] for x in both)]

    def pixels(self, image_NCHW: Tensor) -> Tensor:
        """Bytes as the vision towers want them, [N, 3 for each, side, side]."""
        found, side = image_NCHW.to(self.device).float() / 255, self._side
        if found.shape[-1] != side or found.shape[-2] != side:
            found = torch.nn.functional.interpolate(found, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        return torch.cat([(found - mean) / std for mean, std in self._scales], 1)

    def _picture_tokens(self) -> list[int]:
        """What stands for an image in the text, as many as the vision tower makes of it."""
        blank = torch.zeros(1, 3, self._side, self._side, device=self.device, dtype=self.model.dtype)
        layer, select = (getattr(self.model.config, f"vision_feature_{name}") for name in ("layer", "select_strategy"))
        made = self.model.get_image_features(blank, vision_feature_layer=layer, vision_feature_select_strategy=select)
        return [self.model.config.image_token_id] * made.pooler_output[0].shape[0]

    def _text(self, prompt: str) -> list[int]:
        if prompt not in self._texts:
            said = encode(self.tokenizer, self.family.told(prompt))
            self._texts[prompt] = [*leading_ids(self.tokenizer), *self._pictured, *said]
        return self._texts[prompt]

    def _beside(self, there_NL: Tensor, asked_NL: Tensor) -> dict[str, Tensor]:
        """What the model is given beside tokens, of which some are `there` and some of these were `asked` for all at once."""
        return {}

    def _logits(self, prompts: Sequence[str], image_NCHW: Tensor, said_NA: Tensor) -> Tensor:
        """Of the action's next token behind each of those that are said already, [N, A + 1, bins]; of one whose tokens come all at once
        of all of them, whatever is said."""
        texts = [self._text(prompt) for prompt in prompts]
        at_once, count = self.family.at_once, self.family.tokens if self.family.at_once else said_NA.shape[1]
        ends_N, wide = torch.tensor([len(text) for text in texts]), max(map(len, texts)) + count
        tokens_NL = torch.full((len(texts), wide), self.tokenizer.pad_token_id)  # causal: none sees what follows
        said_NA = torch.full((len(texts), count), self.tokenizer.pad_token_id) if at_once else self.first + said_NA
        for row_L, text, said_A in zip(tokens_NL, texts, said_NA, strict=True):
            row_L[: len(text)] = torch.tensor(text)
            row_L[len(text) : len(text) + count] = said_A
        place_L = torch.arange(wide)
        there_NL = place_L < ends_N[:, None] + count
        how = self._beside(there_NL, there_NL & (place_L >= ends_N[:, None]))
        held = self.compute if ranks.is_sharded(self.model) else self.model.dtype
        given = {
            "pixel_values": self.pixels(image_NCHW).to(held),
            **{name: value.to(self.device) for name, value in how.items()},
        }
        with self._view(self.model), computing(self.model, self.compute):
            hidden_NLD, _ = ranks.hidden_states(self.model, tokens_NL.to(self.device), **given)
        at_NA = (ends_N - 1)[:, None] + torch.arange(count if at_once else count + 1)
        hidden_NAD = hidden_NLD[torch.arange(len(texts))[:, None], at_NA]
        head = ranks.full(self.model.get_output_embeddings().weight)[self.first : self.first + self.family.bins]
        return torch.nn.functional.linear(hidden_NAD.float(), head.float())

    @torch.no_grad()
    def rollout(
        self, contexts: Sequence[dict], prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0
    ) -> Trajectory:
        """What is done about every context: a row of one look. Each process asks for its own rows (tasks.episodes)."""
        parts = [
            self._act(
                list(contexts[i : i + self.batch]), list(prompt_ids[i : i + self.batch]), seeds[i : i + self.batch], version
            )
            for i in range(0, len(contexts), self.batch)
        ]
        return Trajectory.concat(parts)

    def _act(self, contexts: list[dict], prompt_ids: list[int], seeds: Sequence[int], version: int) -> Trajectory:
        image_NCHW, prompts = torch.stack([c["image"] for c in contexts]), [c["prompt"] for c in contexts]
        chance_NK = torch.from_numpy(np.stack([rng(seed).random(self.family.tokens) for seed in seeds]))
        said_NA, logp = torch.zeros(len(contexts), 0, dtype=torch.long), []
        while (done := said_NA.shape[1]) < self.family.tokens:
            logits_NJV = self._logits(prompts, image_NCHW, said_NA)[:, done:]
            dist, shape = Categorical.from_logits(logits_NJV.flatten(0, 1), self.temperature or 1.0), logits_NJV.shape[:2]
            if self.temperature:
                chance_N1 = chance_NK[:, done : done + shape[1]].reshape(-1, 1)
                below_N = (dist.prob_NV.cpu().double().cumsum(-1) < chance_N1).sum(-1)
                bin_N = below_N.clamp(max=self.family.bins - 1)
            else:
                bin_N = dist.logp_NV.argmax(-1).cpu()
            said_NA = torch.cat([said_NA, bin_N.view(shape)], 1)
            logp.append(dist.logp(bin_N.to(self.device)).cpu().view(shape))
        return Trajectory(
            contexts,
            list(said_NA),
            torch.tensor(prompt_ids),
            list(torch.cat(logp, 1)),
            version_B=torch.full((len(contexts),), version),
            ended_B=torch.ones(len(contexts), dtype=torch.bool),
            extra={"seen": [image[None] for image in image_NCHW]},
        )

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> Categorical:
        contexts, tokens = trajectory.extra.get(f"context:{role}", trajectory.contexts), self.family.tokens
        seen = trajectory.extra["seen"]
        prompts = [c["prompt"] for c, images in zip(contexts, seen, strict=True) for _ in images]
        late = [len(images) * tokens - len(row) for row, images in zip(trajectory.actions, seen, strict=True)]
        whole = [torch.nn.functional.pad(row, (0, few)) for row, few in zip(trajectory.actions, late, strict=True)]
        logits_NKV = self._logits(prompts, torch.cat(list(seen)), torch.cat(whole).view(-1, tokens)[:, :-1])
        in_time = torch.cat([torch.arange(len(row)) < len(row) - few for row, few in zip(whole, late, strict=True)])
        return Categorical.from_logits(logits_NKV.flatten(0, 1)[in_time.to(self.device)], self.temperature or 1.0)
