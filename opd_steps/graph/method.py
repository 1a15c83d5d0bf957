"""The options of a method: its row of plug points, whose tokens it learns from, and when these are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from opd_steps.config.plugs import plug

PLUGS = "objectives"
ROW = tuple(
    (f"{PLUGS}/{group}", name)
    for group, name in (("targets", "teacher"), ("supports", "sampled"), ("signals", "log_ratio"), ("baselines", "none"))
)
MLE = (*ROW, (f"{PLUGS}/estimators", "mle"))
"""Plugs of trainings whose objective is not the user's to choose (objectives.stream.VANILLA)."""


@dataclass
class Prefix:
    """Whose tokens the states come from."""

    source: Literal["student", "teacher", "dataset", "mixture", "token_mix"] = "student"
    student_share: Annotated[float, "0 to 1"] = 0.5  # mixture: probability that a step uses student rollouts (GKD's lambda)
    teacher_share: Annotated[float, "above 0, below 1"] = 0.2  # token_mix: a token comes from the teacher so often (MiniLLM)
    column: str = "solution"  # rows of the data set: text column of the train split


@dataclass
class Term:
    """One term of the objective: which divergence, where, and how its gradient is estimated."""

    target: Any = plug(f"{PLUGS}/targets", "teacher")
    support: Any = plug(f"{PLUGS}/supports", "sampled")
    signal: Any = plug(f"{PLUGS}/signals", "log_ratio")
    estimator: Any = plug(f"{PLUGS}/estimators", "pg")
    baseline: Any = plug(f"{PLUGS}/baselines", "none")
    transform: list[Any] = plug(f"{PLUGS}/transforms", many=True)  # of the advantage, in this order
    weight: list[Any] = plug(f"{PLUGS}/weights", many=True)
    coef: Annotated[float, "any"] = 1.0
    against: Literal["teacher", "reference", "sampler"] = (
        "teacher"  # sampler: the policy that made the rollouts, as it was then
    )
    rows: Literal["prefix", "student", "teacher", "dataset"] = (
        "prefix"  # which rows the term looks at; prefix: the method's own
    )


@dataclass
class Method(Term):
    """A method is a row of plug points; the defaults are vanilla on-policy distillation."""

    prefix: Prefix = field(default_factory=Prefix)
    aggregate: Literal["token_mean", "seq_mean", "window_mean", "seq_sum"] = "token_mean"
    advantage: Literal["group_mean", "leave_one_out"] = "group_mean"  # of outcome rewards, for the parts that use them
    divide_by_std: bool = True
    add: list[Term] = field(default_factory=list)  # further terms


@dataclass
class Buffer:
    """Rollouts made ahead of their use. The default is on-policy: each step trains on samples of its own weights."""

    batches: Annotated[int, "at least 1"] = 1  # steps' worth of rollouts that one version of the weights makes at once
    passes: Annotated[int, "at least 1"] = 1  # times that they are trained on before the weights of that moment make new ones
    mixed: bool = False  # every step mixes rollouts of all ages 0 .. batches - 1, each trained on once: an asynchronous run
    metric: str = ""  # e.g. freshness: make new ones early, when train/<metric> falls
    below: Annotated[float, "any"] = 0.0  # under this value
