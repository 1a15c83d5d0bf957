from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch

from opd_steps.errors import UserError
from opd_steps.hooks import HookPlug, Setting
from opd_steps.nouns.hook import Hook
from opd_steps.process import ranks
from opd_steps.seeds import derive, rng


@dataclass(frozen=True)
class EffOPD(HookPlug):
    """EffOPD (arXiv 2605.11739): at steps 1, 2, 4, 8, ... go on along the update since the last such step, as far as it helps.

    Delta = W - W_anchor; candidates C_k = W + factor k Delta, k = 1 .. candidates, are scored on a fixed set of train
    prompts (greedily, or at a temperature with fixed seeds); accept while the score does not fall (strict: while it rises), stop
    at the first refusal. The accepted weights are the next anchor; the optimizer's moments stay. Only matrices of the named
    modules move.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("extrapolated", "score_before", "score_after")
    WEIGHTS: ClassVar[bool] = True
    PROMPTS: ClassVar[bool] = True
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds", "tasks/verifiers")
    CHECKS: ClassVar[tuple[str, ...]] = ("len(modules) >= 1",)

    prompts: Annotated[int, "at least 1"] = 50
    temperature: Annotated[float, "at least 0"] = 0.0  # of the scored answers
    factor: Annotated[float, "above 0"] = 2.0
    candidates: Annotated[int, "at least 1"] = 5
    strict: bool = False
    modules: list[str] = field(default_factory=lambda: ["self_attn", "mlp"])

    def make(self, setting: Setting) -> _Foresight:
        return _Foresight(self, setting)


class _Foresight(Hook):
    def __init__(self, options: EffOPD, setting: Setting):
        self.options, self.pool = options, setting.pool
        count = min(options.prompts, len(setting.pool))
        self.picks = rng(setting.seed, "extrapolate").permutation(len(setting.pool))[:count].tolist()
        self.seeds = [derive(setting.seed, "extrapolate", i) for i in self.picks]
        self.anchor = {name: p.detach().clone() for name, p in self._moving(setting.policy).items()}
        if not self.anchor:
            raise UserError("hooks effopd", f"no matrix of the student has one of {options.modules} in its name")

    def _moving(self, policy) -> dict[str, torch.Tensor]:
        named = policy.model.named_parameters()
        return {name: p for name, p in named if p.ndim > 1 and any(part in name for part in self.options.modules)}

    def score(self, policy) -> float:
        """Share of the fixed prompts that the policy solves."""
        temperature, policy.temperature = policy.temperature, self.options.temperature
        rows = self.pool.play(policy, self.picks, self.seeds)
        policy.temperature = temperature
        return sum(rows.reward_B.tolist()) / len(rows)

    @torch.no_grad()
    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        if step & (step - 1):
            return
        moving = self._moving(policy)
        here = {name: p.clone() for name, p in moving.items()}

        def go(k: int) -> None:
            for name, p in moving.items():
                p.copy_(here[name] + self.options.factor * k * (here[name] - self.anchor[name]))

        before = best = self.score(policy)
        accepted = 0
        for k in range(1, self.options.candidates + 1):
            go(k)
            found = self.score(policy)
            if found < best or (self.options.strict and found == best):
                break
            accepted, best = k, found
        go(accepted)
        self.anchor = {name: p.clone() for name, p in moving.items()}
        metrics |= {"train/extrapolated": float(accepted), "train/score_before": before, "train/score_after": best}

    def state_dict(self) -> dict:
        return dict(self.anchor)

    def load_state_dict(self, state: dict) -> None:
        self.anchor = {name: ranks.cut_like(value, self.anchor[name]) for name, value in state.items()}
