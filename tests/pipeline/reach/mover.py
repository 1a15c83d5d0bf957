"""A family that speaks no tokens: a Gaussian policy that moves a point. For the test of what a new family takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.families import Family
from opd_steps.nouns.dist import DiagGaussian
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job


@dataclass(frozen=True)
class Mover(Family):
    """x' = x + a, a ~ N(net(position, goal), std^2): what the world reach is played with."""

    hidden: Annotated[int, "at least 1"] = 16
    std: Annotated[float, "above 0"] = 0.1

    def make(self, job: Job) -> dict:
        torch.manual_seed(derive(job.seed, "model"))
        self.save(MoverPolicy(self._net(), self), job.stage)
        return {"moves": 2}

    def policy(
        self, folder: Path, *, numerics=None, sampling: Mapping | None = None, batch: int = 256, train: bool = False
    ) -> MoverPolicy:
        if not (Path(folder) / "model/options.json").is_file():
            raise UserError(str(folder), "no mover lies here")
        net = self._net()
        net.load_state_dict(load_file(Path(folder) / "model/net.safetensors"))
        return MoverPolicy(net.requires_grad_(train).eval(), self)

    def save(self, policy: MoverPolicy, folder: Path) -> None:
        (folder / "model").mkdir(parents=True)
        save_file(
            {name: value.contiguous() for name, value in policy.model.state_dict().items()}, folder / "model/net.safetensors"
        )
        (folder / "model/options.json").write_text(json.dumps(asdict(self)))

    def require_same(self, policy: MoverPolicy, other: MoverPolicy, where: str, role: str) -> None:
        if other.family.identity(other) != self.identity(policy):
            raise UserError(where, f"the {role} makes other moves than the student")

    def identity(self, policy: MoverPolicy) -> dict:
        return {"moves": 2}

    def _net(self) -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 2))


class MoverPolicy:
    """States [T, 4] of a row, position and goal, stand in the column `state`."""

    device = torch.device("cpu")

    def __init__(self, model: nn.Module, family: Mover):
        self.model, self.family = model, family

    @torch.no_grad()
    def act(self, state_B4: Tensor, noise_B2: Tensor) -> tuple[Tensor, Tensor]:
        """(moves [B, 2], their log-probs [B])."""
        move_B2 = self.model(state_B4) + self.family.std * noise_B2
        return move_B2, (-0.5 * noise_B2.square() - math.log(self.family.std) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def sample_by(self, sampling: dict) -> None:
        """It knows no temperature, and the world says when an episode ends."""

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> DiagGaussian:
        return DiagGaussian(self.model(torch.cat(list(trajectory.extra["state"]))), torch.tensor(self.family.std))
