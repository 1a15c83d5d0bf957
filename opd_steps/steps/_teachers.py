"""The teachers of an opd job: loaded, or started, and only those that somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from opd_steps.config import plugs
from opd_steps.config.asks import Asks
from opd_steps.config.teachers import SOURCES, Teaching, asked, hidden_pairs, learners, named, samplers, sources, starts
from opd_steps.config.versions import versions
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.teaching import Given
from opd_steps.steps._engines import engine_teacher
from opd_steps.steps._models import adapts, load_policy, require_same
from opd_steps.store.artifacts import Job
from opd_steps.teachers.cached import CachedTeacher
from opd_steps.teachers.engine import EngineTeacher
from opd_steps.teachers.view import View


@dataclass
class Staff:
    """What is asked of whom, and who answers.

    teachers   by name, in the order in which they prepare rows
    policies   torch models of teachers, by name: a controller sets their sampling, and a prefix source may let them sample
    engines    teachers behind an engine that is not started yet
    hooks      of teachers whose weights move
    still      torch models whose weights do not, by folder and numerics
    """

    job: Job
    students: Mapping[str, Policy]
    pool: object
    teachers: dict[str, Teacher] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    engines: dict[str, EngineTeacher] = field(default_factory=dict)
    hooks: list = field(default_factory=list)
    still: dict[tuple, Policy] = field(default_factory=dict)

    @cached_property
    def teachings(self) -> dict[str, Teaching]:
        return named(self.job.options, self.job.parents)

    @cached_property
    def asks(self) -> dict[str, Asks]:
        return asked(self.job.options, self.teachings)

    def hire(self) -> Staff:
        """Make all teachers that are asked for anything, those among whom rows are routed before their router."""
        for name in self.asks:
            if name in self.teachings:
                self._make(self.teachings[name])
        return self

    def of(self, learner: str) -> dict[str, Teacher]:
        """The teachers that a learner's method asks, those behind a router among them."""
        wanted = asked(self.job.options, self.teachings, learner)
        return {name: teacher for name, teacher in self.teachers.items() if name in wanted}

    def _make(self, teaching: Teaching) -> None:
        name = teaching.name
        if name in self.teachers:
            return
        for other in teaching.others:
            self._make(self.teachings[other])
        context = plugs.load("teachers/contexts", teaching.context)
        if teaching.scores:
            inner = CachedTeacher()
        elif teaching.engine["name"] != "local":
            inner = self.engines[name] = engine_teacher(
                self.job,
                teaching.model,
                teaching.engine,
                teaching.engine_key,
                self.asks[name],
                self.job.options["sampling"]["temperature"],
                teaching.dtype,
            )
            require_same(self.students[""], inner, self.job, teaching.model)
        else:
            source = plugs.load(SOURCES, teaching.weights)
            learner, pairs = self.students[teaching.own or ""], tuple(hidden_pairs(self.job.options, name))
            given = Given(name, learner, lambda: self._load(teaching), self.pool, self.teachers, pairs)
            inner = source.teacher(given)
            self.hooks += filter(None, [source.hook(given)])
        self.teachers[name] = View(name, inner, context, self.pool, self.job.seed)

    def _load(self, teaching: Teaching) -> Policy:
        """The teacher's model, once; teachers of one node share it, unless its weights move."""
        if teaching.name in self.policies:
            return self.policies[teaching.name]
        options, role = self.job.options, teaching.model
        moves = plugs.constant(SOURCES, teaching.weights["name"], "MOVES")
        numerics = Numerics.frozen(options, teaching.dtype)
        if moves:  # by less than a bf16 weight can take
            numerics = replace(numerics, weights="float32")
        known = (self.job.path(role), numerics)
        if known in self.still and not moves:
            return self.policies.setdefault(teaching.name, self.still[known])
        if not moves and numerics.compute == options["dtype"] and (begun := self._begun(teaching)):
            return self.policies.setdefault(teaching.name, begun)
        policy = load_policy(self.job, role, options["sampling"], options["engine"]["batch"], numerics=numerics)
        if not moves:
            self.still[known] = policy
        if not plugs.constant(SOURCES, teaching.weights["name"], "OTHER_TOKENIZER"):
            require_same(self.students[""], policy, self.job, role)
        self.policies[teaching.name] = policy
        return policy

    def _begun(self, teaching: Teaching) -> Policy | None:
        """The teacher's model where it is in memory already: a learner that began as it, and whose adapter can be set aside.

        Not for one that samples: a mixture decodes with both at once.
        """
        options = self.job.options
        if not adapts(self.job):
            return None
        methods = [method for version in versions(options) for _, method in learners(version)]
        if any(teaching.name in samplers(source) for method in methods for source in sources(method)):
            return None
        for name, role in starts(options).items():
            if self.job.path(role) == self.job.path(teaching.model):
                return self.students[name].begun()
        return None
