"""A language model that also sees: contexts are a question beside a picture or a video, decisions are tokens of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.packing import Read, padded
from opd_steps.models.vl_reading import Context, VLReading
from opd_steps.nouns.heard import woven
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.lean import Plain


class VLPolicy(LMPolicy):
    """All but what is read is a language model's. While it samples, the picture tokens of a prompt are its picture's number behind the
    vocabulary, so that prompts of equal words and other pictures stay apart.
    """

    def __init__(self, model: PreTrainedModel, tokenizer, **how):
        super().__init__(model, tokenizer, **how)
        self._placed, self._seen = {}, []
        self.reading = VLReading(tokenizer, self.family, model.config, Path(model.config._name_or_path))
        self.sight, self.tokens = self.reading.sight, self.reading.tokens
        self._pads, self._marks = self.reading.pads, self.reading.marks
        self._first = model.get_input_embeddings().num_embeddings  # number of picture 0

    def _places(self, context: Context) -> Tensor:
        """Positions of the prompt's tokens, [3, L]: time, row and column."""
        tokens, grid = self.tokens(context), self.sight.grid(tuple(context["seen"].shape))
        if (key := (tuple(tokens), grid)) not in self._placed:
            ids_1L, grids = torch.tensor([tokens]), torch.tensor([grid])
            kinds_1L = sum(k * (ids_1L == pad) for k, pad in enumerate(self._pads, 1))  # 1 image, 2 video
            which = "image_grid_thw" if len(context["seen"]) == 1 else "video_grid_thw"
            how = {"mm_token_type_ids": kinds_1L, which: grids}
            self._placed[key] = self.model.base_model.get_rope_index(ids_1L, **how)[0][:, 0]
        return self._placed[key]

    def shown(self, contexts: Sequence[Context], width: int, left: bool = False) -> tuple[dict, Tensor]:
        """(what the model is given beside tokens [B, width], the position that follows each prompt [B]); `left`: on which side
        prompts are padded. Behind those that are not, text goes on."""
        places, ends = [self._places(c) for c in contexts], []
        position_3BL = torch.zeros(3, len(contexts), width, dtype=torch.long)
        for b, place_3L in enumerate(places):
            count, after = place_3L.shape[1], int(place_3L.max()) + 1
            ends.append(after)
            position_3BL[:, b, width - count if left else 0 :][:, :count] = place_3L
            if not left:
                position_3BL[:, b, count:] = torch.arange(after, after + width - count)
        how = {"position_ids": position_3BL.to(self.device)}
        for names, is_image in ((("pixel_values", "image_grid_thw"), True), (("pixel_values_videos", "video_grid_thw"), False)):
            if mine := [c["seen"] for c in contexts if (len(c["seen"]) == 1) == is_image]:
                grids = torch.tensor([self.sight.grid(tuple(seen.shape)) for seen in mine], device=self.device)
                patches = torch.cat([self.sight.patches(seen) for seen in mine]).to(self.device)
                how |= dict(zip(names, (patches, grids), strict=True))
        return how, torch.tensor(ends)

    def rollout(
        self, contexts: Sequence[Context], prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0
    ) -> Trajectory:
        known: dict[tuple, int] = {}
        numbers = [known.setdefault((c["prompt"], c["seen"].numpy().tobytes()), len(known)) for c in contexts]
        self._seen = [contexts[numbers.index(number)] for number in range(len(known))]
        named = [self.tokens(c, self._first + number) for c, number in zip(contexts, numbers, strict=True)]
        return super().rollout(named, prompt_ids, seeds, version).with_columns(contexts=list(contexts))

    def decoder(self, model: PreTrainedModel, new: int) -> Plain:
        return _Seeing(model, self)

    def unnamed(self, ids_BL: Tensor) -> tuple[Tensor, list[Context]]:
        """Prompts as the model knows them, and what each row sees."""
        seen = [self._seen[number] for number in (ids_BL.amax(-1) - self._first).tolist()]
        pad_B1 = torch.tensor([[self._pads[len(c["seen"]) > 1]] for c in seen], device=ids_BL.device)
        return torch.where(ids_BL >= self._first, pad_B1, ids_BL), seen

    def own(self, tokens: Tensor) -> Tensor:
        """Tokens that it wrote: a mark for pictures among them stands for none, and is read as the mark that ends one."""
        return torch.where(torch.isin(tokens, torch.tensor(self._pads, device=tokens.device)), self._marks[1], tokens)

    def _read(self, trajectory: Trajectory, role: str) -> Read:
        contexts, (behind, places) = trajectory.extra.get(f"context:{role}", trajectory.contexts), woven(trajectory)
        prompts, behind = [self.tokens(c) for c in contexts], [self.own(torch.tensor(row)).tolist() for row in behind]
        self._require_room(max(len(c) + len(tokens) - 1 for c, tokens in zip(prompts, behind, strict=True)))
        read = padded(prompts, behind, places, self.tokenizer.pad_token_id, self.device)
        return replace(read, how=self.shown(contexts, read.tokens_BL.shape[1])[0])


class _Seeing(Plain):
    """Decoding with transformers' cache: pictures are looked at once, with the prompt."""

    def __init__(self, model: PreTrainedModel, policy: VLPolicy):
        super().__init__(model)
        self.policy, self.ahead_B1 = policy, None  # by how much positions run behind the number of tokens

    def __call__(self, ids_BP: Tensor, position_BP: Tensor, mask_BL: Tensor | None) -> Tensor:
        args = {"attention_mask": mask_BL, "past_key_values": self.cache, "use_cache": True}
        if self.ahead_B1 is None:
            ids_BP, contexts = self.policy.unnamed(ids_BP)
            how, ends_B = self.policy.shown(contexts, ids_BP.shape[1], left=True)
            self.ahead_B1 = ends_B.to(ids_BP.device)[:, None] - position_BP[:, -1:] - 1
        else:
            how = {"position_ids": (position_BP + self.ahead_B1).expand(3, -1, -1)}
            ids_BP = self.policy.own(ids_BP)
        last = torch.tensor([-1], device=ids_BP.device)
        return self.model(input_ids=ids_BP, logits_to_keep=last, **args, **how).logits[:, -1]

    def select(self, keep: Tensor) -> None:
        super().select(keep)
        self.ahead_B1 = self.ahead_B1[keep]
