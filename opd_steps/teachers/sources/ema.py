from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.errors import UserError
from opd_steps.nouns.adapted import whole_weights
from opd_steps.nouns.hook import Hook
from opd_steps.nouns.policy import Teacher
from opd_steps.nouns.teaching import Given
from opd_steps.process import ranks
from opd_steps.teachers.sources import TeacherSource
from opd_steps.teachers.view import ModelTeacher

UNLIKE = "an average of the student's weights needs a teacher of the student's own shape"


@dataclass(frozen=True)
class EMA(TeacherSource):
    """The teacher node's weights at first, then theta_T <- (1 - rate) theta_T + rate theta after every step (MOPD, arXiv 2605.12652).

    It is held in fp32, whatever the student is held in: a bf16 weight would round small steps away. For self-distillation name the
    student's own start as the teacher, or `model: self`. Raises UserError when the shapes differ.
    """

    MOVES: ClassVar[bool] = True
    UNCARRIED: ClassVar[str] = ""

    rate: Annotated[float, "above 0, at most 1"] = 0.05

    @property
    def follows(self) -> float:
        return self.rate

    def teacher(self, given: Given) -> Teacher:
        return ModelTeacher(given.load())

    def hook(self, given: Given) -> _Average:
        return _Average(given.load().model, given.learner.model, self.rate)


class _Average(Hook):
    """The after-step hook; its state is the average."""

    def __init__(self, model: torch.nn.Module, learner: torch.nn.Module, rate: float):
        self.average, self.learner, self.rate = dict(model.named_parameters()), learner, rate

    @torch.no_grad()
    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        left = set(self.average)
        for name, value in whole_weights(self.learner):
            if name not in left or value.shape != self.average[name].shape:
                raise UserError("teacher_source", UNLIKE)
            left.remove(name)
            self.average[name].lerp_(value.to(self.average[name].dtype), self.rate)
        if left:
            raise UserError("teacher_source", UNLIKE)

    def state_dict(self) -> dict:
        return dict(self.average)

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        for name, average in self.average.items():
            average.copy_(ranks.cut_like(state[name], average))
