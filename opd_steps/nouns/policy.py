"""Policies: what can act, and say how likely its actions were. The loop knows nothing else of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.trajectory import Trajectory


class Policy(Protocol):
    """A model with the sampler that it is deployed with.

    model    its parameters: what an optimizer, a checkpoint and an average see
    device   where its distributions and figures are made
    """

    model: torch.nn.Module
    device: torch.device

    def rollout(self, contexts: Sequence[Any], prompt_ids: Sequence[int], seeds: Sequence[int], version: int) -> Trajectory:
        """Act once on every context (no gradient); row i's randomness depends on seeds[i] alone."""

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> StepDist:
        """The distributions at all decision points of a trajectory, with gradient if the policy trains.

        `role` picks the context that is seen, extra["context:<role>"]: a teacher, by its name, may hold privileged context.
        `asks`: what is wanted of it, so that no more is made; hidden states of layers are there only when asked for.
        """

    def sample_by(self, sampling: dict) -> None:
        """Sample as these options of the node say from now on."""


class Sampler(Protocol):
    """What samples for a language model in place of the model itself."""

    version: int | None
    """Optimizer steps behind its weights; None: they are incomplete."""

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int = 0,
        stop: Sequence[str] = (),
    ) -> tuple[list[Tensor], list[Tensor], list[bool]] | None:
        """New ids [T], their log-probs [T] as sampled, and whether the row ended by itself: with an end token, or with the one that
        completes a string of `stop`; one seed a row. None: it was started again
        meanwhile, with the weights that `version` says."""

    def sync(self, model: torch.nn.Module, version: int) -> None:
        """Take the model's weights. Raises UserError when both do not agree afterwards."""


class Teacher(Protocol):
    """An opinion of somebody else's trajectory: of a frozen model, of the student itself, of a file of scores, of several by turns."""

    def prepare(self, rows: Trajectory) -> Trajectory:
        """Once for each batch: what it needs beside the rows - a context, scores of an engine, a route - as columns of `extra`."""

    def dist(self, trajectory: Trajectory, role: str = "teacher", asks: Asks = NOTHING) -> StepDist:
        """Its distributions at the decision points of prepared rows. `role`: its name."""
