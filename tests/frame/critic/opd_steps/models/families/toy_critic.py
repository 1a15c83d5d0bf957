"""A critic of token rows: is a row real (1) or the student's (0)? It decides once a row and samples nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.models.families import Family
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class ToyCritic(Family):
    """Mean of token embeddings, one hidden layer, two logits."""

    READS: ClassVar[tuple[str, ...]] = ()

    width: Annotated[int, "at least 1"] = 16
    vocab: Annotated[int, "at least 1"] = 128

    def make(self, job: Job) -> dict:
        torch.manual_seed(job.seed)
        self._write(self._net(), job.stage)
        return {"family": {"name": "toy_critic", "width": self.width, "vocab": self.vocab}, "kind": "fresh"}

    def _net(self) -> nn.Module:
        return nn.Sequential(nn.EmbeddingBag(self.vocab, self.width), nn.Tanh(), nn.Linear(self.width, 2))

    def _write(self, net: nn.Module, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(net.state_dict(), folder / "critic.safetensors")

    def policy(
        self, folder: Path, *, numerics=None, sampling: Mapping | None = None, batch: int = 256, train: bool = False
    ) -> Critic:
        net = self._net()
        net.load_state_dict(load_file(folder / "critic.safetensors"))
        return Critic(net.requires_grad_(train), self)

    def save(self, policy: Critic, folder: Path) -> None:
        self._write(policy.model, folder)

    def require_same(self, policy, other, where: str, role: str) -> None:
        pass


class Critic:
    device = torch.device("cpu")

    def __init__(self, model: nn.Module, family: ToyCritic):
        self.model, self.family = model, family

    def sample_by(self, sampling: dict) -> None:
        pass

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> Categorical:
        offsets = torch.tensor([0, *map(len, trajectory.contexts)]).cumsum(0)[:-1]
        tokens = torch.tensor([token for row in trajectory.contexts for token in row])
        return Categorical.from_logits(self.model[2](self.model[1](self.model[0](tokens, offsets))))
