"""The options of a method: its row of plug points, whose tokens it learns from, and when these are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional

from opd_steps.config.plugs import plug
from opd_steps.graph.options import Dtype, Optim, TeacherEngine, ref

PLUGS = "objectives"
ROW = tuple(
    (f"{PLUGS}/{group}", name)
    for group, name in (("targets", "teacher"), ("supports", "sampled"), ("signals", "log_ratio"), ("baselines", "none"))
)
MLE = (*ROW, (f"{PLUGS}/estimators", "mle"))
"""Plugs of trainings whose objective is not the user's to choose (objectives.stream.VANILLA)."""


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
    where: list[Any] = plug(f"{PLUGS}/where", many=True)  # which decision points the term is about: all of these hold
    against: str = "teacher"  # a teacher's name; sampler: the policy that made the rollouts, as it was then
    rows: Any = plug("prefixes", optional=True)  # which rows the term looks at; null: the method's own


@dataclass
class Method(Term):
    """A method is a row of plug points; the defaults are vanilla on-policy distillation."""

    prefix: Any = plug("prefixes", "student")  # whose tokens, or other decisions, the states come from
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
    ahead: bool = (
        False  # one step off: rows of the next step are sampled by this one's weights; by a server, while this one trains
    )
    metric: str = ""  # e.g. freshness: make new ones early, when train/<metric> falls
    below: Annotated[float, "any"] = 0.0  # under this value


@dataclass
class TeacherOptions:
    """A teacher by its name: with which weights, in which context, behind which engine. A term says `against: <name>`."""

    model: Optional[str] = ref("model", required=False, own=True)  # a node; self: the student, self:<learner>: another learner
    scores: Optional[str] = ref("scores", required=False)  # instead of a model: what it said of rollouts
    weights: Any = plug("teachers/sources", "frozen")  # where its weights come from as training goes on
    dtype: Optional[Dtype] = None  # of its weights and what they compute; null: the node's
    context: Any = plug("teachers/contexts", "plain")  # what it sees in place of the prompt
    engine: TeacherEngine = field(default_factory=TeacherEngine)


@dataclass
class LearnerOptions:
    """A further learner of the node by its name, trained beside the student on rows of its own method's prefix source."""

    model: str = ref("model")
    method: Method = field(default_factory=Method)
    optim: Optim = field(default_factory=Optim)
    gradient: Any = plug("gradients", "plain")
