"""A flow of small images: from noise to an image in a few Gaussian steps, conditioned on a label. Its decisions are the next latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.families import Family, named
from opd_steps.nouns.dist import DiagGaussian
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job

FILE = "flow.safetensors"


@dataclass(frozen=True)
class ToyFlow(Family):
    """x_{k+1} ~ N(x_k + v(x_k, k, label) / steps, noise^2): `pixels` numbers, `labels` conditions, `steps` decisions a row."""

    READS: ClassVar[tuple[str, ...]] = ()

    pixels: Annotated[int, "at least 1"] = 16
    labels: Annotated[int, "at least 1"] = 4
    steps: Annotated[int, "at least 1"] = 4
    noise: Annotated[float, "above 0"] = 0.3
    width: Annotated[int, "at least 1"] = 32

    def _net(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(self.pixels + self.labels + 1, self.width), nn.SiLU(), nn.Linear(self.width, self.pixels)
        )

    def make(self, job: Job) -> dict:
        torch.manual_seed(job.seed)
        save_file(self._net().state_dict(), job.stage / FILE)
        return {"family": named(self), "kind": "fresh"}

    def policy(
        self, folder: Path, *, numerics=None, sampling: Mapping | None = None, batch: int = 256, train: bool = False
    ) -> FlowPolicy:
        net = self._net()
        net.load_state_dict(load_file(folder / FILE))
        return FlowPolicy(net.requires_grad_(train), self)

    def save(self, policy: FlowPolicy, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(policy.model.state_dict(), folder / FILE)

    def require_same(self, policy: FlowPolicy, other: FlowPolicy, where: str, role: str) -> None:
        same = lambda f: (f.pixels, f.labels, f.steps, f.noise)
        if same(self) != same(other.family):
            raise UserError(where, f"the {role} goes other steps than the student")


class FlowPolicy:
    """Contexts are labels. States stand in extra["latents"], [T, pixels] each row; actions are the latents one step on."""

    device = torch.device("cpu")

    def __init__(self, model: nn.Module, family: ToyFlow):
        self.model, self.family = model, family

    def sample_by(self, sampling: dict) -> None:
        pass

    def _step(self, x_ND: Tensor, time_N: Tensor, label_N: Tensor) -> DiagGaussian:
        told = torch.nn.functional.one_hot(label_N, self.family.labels).float()
        v_ND = self.model(torch.cat([x_ND, told, time_N[:, None] / self.family.steps], -1))
        return DiagGaussian(x_ND + v_ND / self.family.steps, torch.full_like(x_ND, self.family.noise))

    @torch.no_grad()
    def rollout(self, contexts: Sequence, prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        steps, label_B = self.family.steps, torch.tensor(list(contexts))
        noise = np.stack([rng(s).standard_normal((steps + 1, self.family.pixels)) for s in seeds])
        noise = torch.tensor(noise, dtype=torch.float32)
        x_BD, states, actions, logp = noise[:, 0], [], [], []
        for t in range(steps):
            dist = self._step(x_BD, torch.full((len(x_BD),), t), label_B)
            states.append(x_BD)
            x_BD = dist.mean_ND + dist.std_ND * noise[:, t + 1]
            actions.append(x_BD)
            logp.append(dist.logp(x_BD))
        stack = lambda parts: list(torch.stack(parts, 1))
        return Trajectory(
            list(contexts),
            stack(actions),
            torch.tensor(list(prompt_ids)),
            stack(logp),
            version_B=torch.full((len(label_B),), version),
            ended_B=torch.ones(len(label_B), dtype=torch.bool),
            extra={"latents": stack(states)},
        )

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> DiagGaussian:
        label_B = torch.tensor(list(trajectory.contexts))
        return self._step(torch.cat(list(trajectory.extra["latents"])), trajectory.step_N, label_B[trajectory.owner_N])
