"""A policy of observations: two layers, a categorical over a few actions. It decides once for each observation that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.errors import UserError
from opd_steps.models.families import Family, named
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng

if TYPE_CHECKING:
    from opd_steps.store.artifacts import Job

FILE = "policy.safetensors"


@dataclass(frozen=True)
class ToyMLP(Family):
    """Observations of `inputs` numbers, `actions` choices."""

    READS: ClassVar[tuple[str, ...]] = ()

    inputs: Annotated[int, "at least 1"] = 4
    actions: Annotated[int, "at least 2"] = 4
    width: Annotated[int, "at least 1"] = 16

    def _net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.inputs, self.width), nn.Tanh(), nn.Linear(self.width, self.actions))

    def make(self, job: Job) -> dict:
        torch.manual_seed(job.seed)
        save_file(self._net().state_dict(), job.stage / FILE)
        return {"family": named(self), "kind": "fresh", "vocab_size": self.actions}

    def policy(
        self, folder: Path, *, numerics=None, sampling: Mapping | None = None, batch: int = 256, train: bool = False
    ) -> MLPPolicy:
        net = self._net()
        net.load_state_dict(load_file(folder / FILE))
        return MLPPolicy(net.requires_grad_(train), self, (sampling or {}).get("temperature", 1.0))

    def save(self, policy: MLPPolicy, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(policy.model.state_dict(), folder / FILE)

    def require_same(self, policy: MLPPolicy, other: MLPPolicy, where: str, role: str) -> None:
        if (self.inputs, self.actions) != (other.family.inputs, other.family.actions):
            raise UserError(where, f"the {role} sees or does other things than the student")


class MLPPolicy:
    """A row is a walk: observations stand in extra["seen"], [T, inputs] each; contexts are the first ones."""

    device = torch.device("cpu")

    def __init__(self, model: nn.Module, family: ToyMLP, temperature: float):
        self.model, self.family, self.temperature = model, family, temperature

    def sample_by(self, sampling: dict) -> None:
        self.temperature = sampling["temperature"]

    @torch.no_grad()
    def rollout(self, contexts: Sequence, prompt_ids: Sequence[int], seeds: Sequence[int], version: int = 0) -> Trajectory:
        seen = torch.tensor(contexts, dtype=torch.float32)
        dist = Categorical.from_logits(self.model(seen), self.temperature or 1.0)
        uniform = torch.tensor([rng(s).random() for s in seeds])
        if self.temperature:
            action = (dist.prob_NV.cumsum(-1) < uniform[:, None]).sum(-1).clamp(max=self.family.actions - 1)
        else:
            action = dist.logp_NV.argmax(-1)
        logp = dist.logp(action)
        return Trajectory(
            list(contexts),
            [a[None] for a in action],
            torch.tensor(list(prompt_ids)),
            [x[None] for x in logp],
            version_B=torch.full((len(action),), version),
            ended_B=torch.ones(len(action), dtype=torch.bool),
            extra={"seen": [x[None] for x in seen]},
        )

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> Categorical:
        return Categorical.from_logits(self.model(torch.cat(list(trajectory.extra["seen"]))), self.temperature or 1.0)
