"""A learner: who is trained, by what, and how the gradient becomes an update. A node has one, or several by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opd_steps.gradients import Gradient
from opd_steps.gradients.plain import Plain
from opd_steps.loop.objective import Objective
from opd_steps.loop.optim import apply_gradient, clip_gradient, gradient_variance, make_optimizer
from opd_steps.loop.passes import Tokens
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.gradient import GradientWork
from opd_steps.nouns.hook import Hook
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.seeds import rng

if TYPE_CHECKING:
    from opd_steps.loop.tokens import TokenLog

VARIANCE_EVERY = 10  # steps between two readings of Adam's moments


@dataclass
class Learner:
    """policy, objective, and the teachers that the objective may ask, by name.

    optim   its optimizer's options; None: the node's
    tokens  keeps what the objective says of single tokens
    """

    policy: Policy
    objective: Objective
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    gradient: Gradient = field(default_factory=Plain)
    optim: dict | None = None
    tokens: TokenLog | None = None

    def start(self, name: str, options: dict, seed: int) -> None:
        """Make its optimizer. `name`: "" for the node's main learner."""
        self.name, self.seed, self.options = name, seed, options
        self.optim = self.optim or options["optim"]
        self.optimizer = make_optimizer(self.policy.model, self.optim)
        self.inner = options.get("minibatches", 1)
        self.updates = options["steps"] * self.inner
        self.work: GradientWork = self.gradient.make(self.policy.model, seed, self.updates)

    def update(self, step: int, batch: Batch, allows: Callable[[dict], bool], hooks: Iterable[Hook] = ()) -> dict[str, float]:
        """Train on the rows of a step. `allows(figures)`: whether an update may be made; `hooks` see the gradient first."""
        stats: dict[str, float] = {}
        for k, index in enumerate(self._split(len(batch.rows), step)):
            rows, columns = (batch.rows, batch.columns) if self.inner == 1 else _pick(batch, index)
            moment = Moment(step, self.seed, self.objective.window, rows=batch.expected)
            at_once = self.gradient.ROWS or self._pass()
            number = (step - 1) * self.inner + k + 1
            self.work.begin(number, batch.expected or len(rows), batch.rate)
            eye = self.tokens.eye(step, rows) if self.tokens and k == 0 else None
            after = self.work.after_rows
            found = self.objective.backward(self.policy, rows, columns, self.teachers, at_once, moment, after, eye)
            if eye:
                self.tokens.keep(step, eye)
            found |= self.work.finish()
            for hook in hooks:
                hook.before_step(self.policy)
            found["grad_norm"] = clip_gradient(self.optimizer, self.optim)
            if allows({f"{self.curve}{name}": value for name, value in found.items()}):
                stats |= found | apply_gradient(self.optimizer, number, self.updates, self.optim)
            self.optimizer.zero_grad(set_to_none=True)
        if self.optimizer.state and (step % VARIANCE_EVERY == 0 or step == self.options["steps"]):
            stats["grad_variance"] = gradient_variance(self.optimizer)
        return stats

    @property
    def curve(self) -> str:
        """In front of the names of its figures: train/, or train/<name>/."""
        return f"train/{self.name}/" if self.name else "train/"

    def _pass(self) -> int | Tokens:
        tokens = self.options.get("micro_tokens")
        return Tokens(tokens, self.options.get("packed", False)) if tokens else self.options["micro_batch"]

    def _split(self, rows: int, step: int) -> list[list[int]]:
        if self.inner == 1:
            return [list(range(rows))]
        order = rng(self.seed, *([self.name] if self.name else []), "minibatch", step).permutation(rows).tolist()
        return [order[k :: self.inner] for k in range(self.inner)]


def _pick(batch: Batch, index: list[int]) -> tuple[Trajectory, dict]:
    return batch.rows.rows(index), {name: column[index] for name, column in batch.columns.items()}
