"""A flow that makes images as a policy: contexts are prompts, a decision is the next latent on the way from noise to an image."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.bases import Base
from opd_steps.models.flow_steps import is_ode, transition
from opd_steps.models.numerics import FP32, Numerics, computing, dtype_of
from opd_steps.nouns.adapted import switched_off
from opd_steps.nouns.dist import DiagGaussian
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.seeds import rng

NOTHING_SAID = ""  # what a model without guidance is told


class FlowPolicy:
    """Columns of a row with T decisions: extra["latents"] [T, D], where each step began, and extra["sigmas"] [T, 2], from where to where in
    time; the last action is the image's latent. `sampling`: max_new_tokens is the number of steps, temperature a factor of the family's
    noise; 0 is the ODE, without chance. Log-probs of steps without chance are those of a Gaussian of width 1 (models.flow_steps).
    """

    def __init__(
        self,
        model: nn.Module,
        scheduler: Any,
        encoder: Any,
        family: Any,
        sampling: Mapping | None,
        batch: int,
        link: dict | None = None,
        numerics: Numerics = FP32,
        base: Base | None = None,
    ):
        self.link = link  # where what stands around the model lies
        self.numerics, self.compute = numerics, dtype_of(numerics.compute)
        self.base, self._view = base, nullcontext  # what an adapter stands on; what is set aside while the model is asked
        self.model, self.scheduler, self.encoder, self.family, self.batch = model, scheduler, encoder, family, batch
        self.level, self.max_new_tokens = family.noise, 1
        if sampling:
            self.sample_by(sampling)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def begun(self) -> FlowPolicy:
        """What the training of an adapter began from, of the same weights in memory: it never moves."""
        start = copy.copy(self)
        start._view = switched_off
        return start

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        config = self.model.config
        side = self.family.side or config.sample_size
        return config.in_channels, side, side

    def sample_by(self, sampling: Mapping) -> None:
        for name, all_of_it in (("top_p", 1.0), ("top_k", 0)):
            if sampling.get(name, all_of_it) != all_of_it:
                raise UserError(f"sampling.{name}", f"steps of a flow have no tail to cut: expected {all_of_it:g}")
        self.level, self.max_new_tokens = self.family.noise * sampling["temperature"], sampling["max_new_tokens"]

    def times(self) -> Tensor:
        """sigma before each step and after the last, [steps + 1], as the scheduler has them."""
        return self.family.times(self.scheduler, self.max_new_tokens)

    def velocity(self, x_ND: Tensor, sigma_N: Tensor, told: tuple[Tensor, ...]) -> Tensor:
        """What the model says at x, [N, D]; with guidance g: v(nothing) + g (v(prompt) - v(nothing))."""
        if (g := self.family.guidance) == 1:
            return self._model(x_ND, sigma_N, told)
        empty = tuple(part.expand(len(x_ND), *part.shape[1:]) for part in self.encoder.encode([NOTHING_SAID]))
        plain_ND, with_ND = (self._model(x_ND, sigma_N, part) for part in (empty, told))
        return plain_ND + g * (with_ND - plain_ND)

    def _model(self, x_ND: Tensor, sigma_N: Tensor, told: tuple[Tensor, ...]) -> Tensor:
        x = x_ND.unflatten(1, self.shape).to(self.compute if ranks.is_sharded(self.model) else self.model.dtype)
        with self._view(self.model), computing(self.model, self.compute):
            return self.family.velocity(self.model, x, sigma_N, told).flatten(1).float()

    @torch.no_grad()
    def rollout(self, contexts: Sequence, prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        made, mine = [], list(ranks.share(len(contexts)))
        with ranks.whole(self.model):
            for i in range(0, len(mine), self.batch):
                cut = mine[i : i + self.batch]
                made += self._drawn([contexts[k] for k in cut], [seeds[k] for k in cut])
        actions, logp, states, pairs = (list(column) for column in zip(*ranks.collect(made), strict=True))
        return Trajectory(
            list(contexts),
            actions,
            torch.tensor(list(prompt_ids)),
            logp,
            version_B=torch.full((len(contexts),), version),
            ended_B=torch.ones(len(contexts), dtype=torch.bool),
            extra={"latents": states, "sigmas": pairs},
        )

    def _drawn(self, contexts: list, seeds: list[int]) -> list[tuple[Tensor, ...]]:
        """Of each row the latents after its steps and their log-probs, those before them, and the times."""
        sigma_T, told, size = self.times().to(self.device), self.encoder.encode(contexts), int(np.prod(self.shape))
        noise_BTD = np.stack([rng(seed).standard_normal((self.max_new_tokens + 1, size), dtype=np.float32) for seed in seeds])
        noise_BTD = torch.from_numpy(noise_BTD).to(self.device)
        x_BD, states, actions, logp = noise_BTD[:, 0], [], [], []
        for t in range(self.max_new_tokens):
            sigma_B, next_B = sigma_T[t].expand(len(x_BD)), sigma_T[t + 1].expand(len(x_BD))
            step = transition(x_BD, self.velocity(x_BD, sigma_B, told), sigma_B, next_B, self.level)
            states.append(x_BD)
            drawn = 0.0 if bool(is_ode(next_B, self.level)[0]) else step.std_ND * noise_BTD[:, t + 1]
            x_BD = step.mean_ND + drawn
            actions.append(x_BD)
            logp.append(step.logp(x_BD))
        stack = lambda parts: torch.stack(parts, 1).cpu()
        pair_T2 = torch.stack([sigma_T[:-1], sigma_T[1:]], 1).cpu()
        return list(zip(stack(actions), stack(logp), stack(states), [pair_T2] * len(contexts), strict=True))

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> DiagGaussian:
        contexts = trajectory.extra.get(f"context:{role}", trajectory.contexts)
        owner_N = trajectory.owner_N
        told = tuple(part[owner_N] for part in self.encoder.encode(list(contexts)))
        x_ND = torch.cat(list(trajectory.extra["latents"])).to(self.device)
        sigma_N, next_N = torch.cat(list(trajectory.extra["sigmas"])).to(self.device).unbind(1)
        return transition(x_ND, self.velocity(x_ND, sigma_N, told), sigma_N, next_N, self.level)

    def images(self, latent_BD: Tensor) -> Tensor:
        """Latents as images in [-1, 1] (clean ones), [B, C, H, W]."""
        return self.encoder.decode(latent_BD.unflatten(1, self.shape))
