"""A causal language model as a policy: contexts are token ids, decisions are tokens."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import NotFinite, UserError
from opd_steps.graph.cost.operations import passes
from opd_steps.graph.cost.shape import Shape, shape_of
from opd_steps.models.ends import model_ends
from opd_steps.models.numerics import FP32, Numerics, cast, computing, dtype_of, multiplied
from opd_steps.models.packing import Read, packs, padded, unpadded
from opd_steps.models.trunks import branched
from opd_steps.nouns.adapted import layers, merged, quantised, switched_off
from opd_steps.nouns.dist import LazyCategorical
from opd_steps.nouns.heard import woven
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.nouns.policy import Sampler
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import flops, ranks
from opd_steps.rollout.lean import Plain, decoder_for
from opd_steps.rollout.local import decode
from opd_steps.rollout.positions import positions
from opd_steps.rollout.stops import Stops

if TYPE_CHECKING:
    from opd_steps.models.bases import Base
    from opd_steps.models.families import Family

_RESHAPED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class LMPolicy:
    """`model` with its tokenizer and the sampling that it is deployed with; `base`: what it stands on, where an adapter is trained.

    Only the first `len(tokenizer)` logits exist: padded vocabularies are sliced, so that models of one tokenizer but
    different padding can be compared.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        family: Family | None = None,
        numerics: Numerics = FP32,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_new_tokens: int = 32,
        stop: Sequence[str] = (),
        batch: int = 256,
        base: Base | None = None,
    ):
        self.model, self.tokenizer, self.family = model, tokenizer, family
        self.temperature, self.top_p, self.top_k = temperature, top_p, top_k
        self.max_new_tokens, self.batch = max_new_tokens, batch
        self.stops = Stops(tokenizer, tuple(stop)) if stop else None
        self.vocab = min(len(tokenizer), model.get_output_embeddings().weight.shape[0])
        self.numerics, self.compute = numerics, dtype_of(numerics.compute)
        self.ends, self.positions = model_ends(model, tokenizer), positions(model.config)
        self.companion: tuple[LMPolicy, float] | None = None
        self.engine: Sampler | None = None
        self.base, self._view = base, nullcontext
        self._gathered = (
            (lambda: None),
            0,
        )  # the whole head of a model that is cut, while somebody holds it; the version that it is of
        self._packs = numerics.packed and packs(model)
        self._plain_head = not any(getattr(model.config, name, None) for name in _RESHAPED_LOGITS)

    @property
    def name(self) -> str:
        """Where the model was loaded from, as errors name it."""
        return getattr(self.model.config, "_name_or_path", "") or "model"

    @property
    def device(self) -> torch.device:
        return self.model.device

    def rollout(
        self, contexts: Sequence[Sequence[int]], prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0
    ) -> Trajectory:
        """Sample one continuation of every context; row i depends on its context and seeds[i] alone.

        `version`: how many optimizer steps made the weights; an engine of other ones is sent these first.
        Raises NotFinite where the model's or the engine's log-probs are no numbers.
        """
        self._require_room(max(map(len, contexts), default=0) + self.max_new_tokens - 1)
        made = None if self.engine else self._decode(contexts, seeds, self._sampling)
        while made is None:  # an engine that died meanwhile has other weights now
            if self.engine.version != version:
                self.engine.sync(self.sampled_from(), version)
            made = self._generated(contexts, seeds)
        tokens, logp, ended, stop = self.stops.cut(*made) if self.stops else (*made, None)
        if not torch.cat(list(logp)).isfinite().all():
            raise NotFinite(self.name, "the log-prob of a sampled token is not finite")
        return Trajectory(
            [list(c) for c in contexts],
            tokens,
            torch.tensor(list(prompt_ids)),
            logp,
            version_B=torch.full((len(tokens),), version),
            ended_B=torch.tensor(ended),
            stop=stop,
        )

    def begin(self, contexts: Sequence[Sequence[int]], seeds: Sequence[int], version: int) -> None:
        """Have a server sample these rows from now on; `rollout` of the same ones, by weights of the same number, waits for them."""
        if self.engine.version != version:
            self.engine.sync(self.sampled_from(), version)
        self.engine.begin(contexts, seeds, **self._sampling, **self._stop)

    @property
    def _sampling(self) -> dict:
        found = {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature}
        return found | {"top_p": self.top_p, "top_k": self.top_k}

    @property
    def _stop(self) -> dict:
        return {"stop": self.stops.strings} if self.stops else {}

    def _generated(self, contexts: Sequence[Sequence[int]], seeds: Sequence[int]) -> tuple[list, list, list] | None:
        """The engine's rows; None as it gives it. Where a prompt ends within a character vLLM looks for stop strings in it, too: rows that
        it ended for such a one are asked for anew, without."""
        made = self.engine.generate(contexts, seeds, **self._sampling, **self._stop)
        early = self.stops.early(made[0], made[2], self.ends) if made and self.stops else []
        if not early:
            return made
        again = self.engine.generate([contexts[i] for i in early], [seeds[i] for i in early], **self._sampling)
        if again is None:
            return None
        for column, values in zip(made, again, strict=True):
            for i, value in zip(early, values, strict=True):
                column[i] = value
        return made

    def decoder(self, model: PreTrainedModel, new: int) -> Plain:
        """What decodes up to `new` tokens a row."""
        return decoder_for(model, new)

    def sampled_from(self) -> PreTrainedModel:
        """The model, with its weights in the dtype that they are computed with: a copy of them as they are now, where that is another."""
        return self.model if ranks.is_sharded(self.model) else cast(self.model, self.compute)

    def _decode(self, contexts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: dict) -> tuple[list, list, list]:
        mine = ranks.share(len(contexts))
        other, share = self.companion or (None, 0.0)
        # what bf16 weights would round away of the sum, layers with an adapter still compute
        # and of a model in four bits nobody holds a whole copy
        plain = (
            merged
            if self.model.dtype is torch.float32 and not any(map(quantised, layers(self.model).values()))
            else nullcontext
        )
        with ranks.whole(self.model, *([other.model] if other else [])), self._view(self.model), plain(self.model):
            made = decode(
                self.sampled_from(),
                [contexts[i] for i in mine],
                [seeds[i] for i in mine],
                **sampling,
                ends=self.ends,
                pad_id=self.tokenizer.pad_token_id,
                vocab=self.vocab,
                batch=self.batch,
                companion=(other.sampled_from(), share) if other else None,
                decoder=self.decoder,
                stops=self.stops,
            )
        rows = ranks.collect(list(zip(*made, strict=True)))
        return tuple([row[k] for row in rows] for k in range(3))

    def mixed_with(self, other: LMPolicy, share: float) -> LMPolicy:
        """This policy, but each token is sampled from share * other + (1 - share) * this; log-probs are the mixture's (MiniLLM)."""
        mixed = copy.copy(self)
        mixed.companion = (other, share)
        return mixed

    def begun(self) -> LMPolicy:
        """What the training of an adapter began from, of the same weights in memory: it never moves."""
        start = copy.copy(self)
        start._view, start.engine = switched_off, None
        return start

    def sample_by(self, sampling: dict) -> None:
        """Temperature and budget as these options say from now on."""
        self.temperature, self.max_new_tokens = sampling["temperature"], sampling["max_new_tokens"]

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> LazyCategorical | HiddenStates:
        """Distributions at all decisions, still hidden states: `[N, D]`, N = sum of their numbers; hidden states of layers alone, and
        no head, where these alone are asked for. What others wrote is context alone.

        `role` picks the context: `trajectory.extra["context:" + role]` where a stage put one, else the plain prompt.
        """
        with self._view(self.model):
            return self._dist(trajectory, role, asks)

    def _dist(self, trajectory: Trajectory, role: str, asks: Asks) -> LazyCategorical | HiddenStates:
        read = self._read(trajectory, role)
        self._count(read, not asks.hidden_alone)
        at_N, row_N = read.at_N, read.row_N
        layers = {}
        if self._plain_head or asks.hidden:
            self._require_layers(asks.hidden)
            with computing(self.model, self.compute):
                hidden_BLD, layers = ranks.hidden_states(self.model, read.tokens_BL, sorted(asks.hidden), **read.how)
        if asks.hidden_alone:
            return HiddenStates({layer: found_BLD[row_N, at_N] for layer, found_BLD in layers.items()})
        if self._plain_head:
            weight, bias = self._head()
            hidden_BLD, weight = multiplied(hidden_BLD, weight, self.compute)
        else:  # the model reshapes its logits: take them whole
            with computing(self.model, self.compute):
                logits_BLV = self.model(input_ids=read.tokens_BL, use_cache=False, **read.how).logits
            hidden_BLD, weight, bias = logits_BLV[..., : self.vocab], None, None
        known = {layer: found_BLD[row_N, at_N] for layer, found_BLD in layers.items()}
        return LazyCategorical(hidden_BLD[row_N, at_N], weight, bias, self.temperature or 1.0, self.vocab, known)

    def _count(self, read: Read, head: bool) -> None:
        if isinstance(self._shape, str):
            flops.done[flops.UNKNOWN] += 1
            return
        gradient, frozen = torch.is_grad_enabled(), self.base is not None
        flops.done[self.numerics.compute] += passes(self._shape, read.length_B, len(read.at_N), gradient, frozen, head)

    @cached_property
    def _shape(self) -> Shape | str:
        """With the part of the head that exists."""
        return shape_of(self.model.config.to_dict() | {"vocab_size": self.vocab})

    def _head(self) -> tuple[Tensor, Tensor | None]:
        """The head's weight and bias, whole. That of a frozen model is gathered once for all distributions that hold it."""
        head = self.model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        bias = None if bias is None else ranks.full(bias)
        if head.weight.requires_grad or not ranks.is_cut(head.weight):
            return ranks.full(head.weight), bias
        now, (gathered, at) = ranks.version(head.weight), self._gathered
        if (weight := gathered()) is None or at != now:
            weight = ranks.full(head.weight)
            self._gathered = weakref.ref(weight), now
        return weight, bias

    def _read(self, trajectory: Trajectory, role: str) -> Read:
        contexts, (behind, places) = trajectory.extra.get(f"context:{role}", trajectory.contexts), woven(trajectory)
        lengths = {len(c) + len(tokens) - 1 for c, tokens in zip(contexts, behind, strict=True)}
        self._require_room(max(lengths))
        sdpa, pad = self.model.config._attn_implementation == "sdpa", self.tokenizer.pad_token_id
        if self._packs and sdpa and (shared := branched(contexts, behind, places, pad, self.device)):
            return shared
        if self._packs and len(lengths) > 1:  # rows of one length have no padding
            return unpadded(contexts, behind, places, sdpa, self.device)
        return padded(contexts, behind, places, pad, self.device)

    def _require_layers(self, hidden: frozenset[int]) -> None:
        depth = self.model.config.get_text_config().num_hidden_layers
        if wrong := [layer for layer in hidden if layer > depth]:
            raise UserError("method.estimator.layers", f"layer {max(wrong)} is asked of {self.name}, which has {depth}")

    def _require_room(self, length: int) -> None:
        """What preflight could not know, as the attempts that a context shows: it would be an index error, or go unsaid (RoPE)."""
        if self.positions is not None and length > self.positions:
            raise UserError(
                "length",
                f"a row has to be read over {length} tokens, prompt and response; this model has {self.positions} positions "
                "(max_position_embeddings)",
            )
