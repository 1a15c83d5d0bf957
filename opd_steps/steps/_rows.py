"""The rows of an opd job's steps: sampled as training goes on, or those that a scores table is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch

from opd_steps.config import plugs
from opd_steps.config.needs import outcome_need, terms
from opd_steps.config.teachers import method_of, samples, starts, text_columns
from opd_steps.config.versions import versions
from opd_steps.loop.batches import fixed_rows, rollout_metrics, told_apart
from opd_steps.loop.buffer import RolloutBuffer, RolloutRing, RolloutsAhead
from opd_steps.loop.conductor import Conductor
from opd_steps.loop.step_rows import StepRows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.bench import Bench
from opd_steps.nouns.heard import woven
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.outcome import outcome_B
from opd_steps.rollout.table import read_rollouts, read_texts, with_scores
from opd_steps.steps._engines import sampling_engine, seen, start_teacher
from opd_steps.steps._models import require_made_with, row_room
from opd_steps.steps._teachers import Staff
from opd_steps.store.artifacts import Job

MakeBatch = Callable[[int], dict[str, Batch]]


@dataclass
class Rows:
    """Builds `make_batch` of a job, and the hooks that go with it."""

    job: Job
    staff: Staff
    pool: Pool
    conductor: Conductor

    def __post_init__(self) -> None:
        self._texts = cache(self.pool.texts)
        if "texts" in self.job.parents:
            require_made_with(self.staff.students[""], self.job, "texts", "student")
            made = read_rollouts(self.job.path("texts"))
            traces = Trajectory(made.contexts, made.actions, made.prompt_B, heard=made.heard)
            self._texts = lambda column: traces
        options, students = self.job.options, self.staff.students
        self._teachers = {name: self.staff.of(name) for name in students}
        asks_outcome = lambda name: any(outcome_need(row) for v in versions(options) for row in terms(method_of(v, name)))
        self._outcomes = {name for name in students if asks_outcome(name)}
        self._judges = [plugs.load("judges", item) for item in options["judges"]]
        self._answers = read_texts(self.job.path("answers")) if "answers" in self.job.parents else {}

    def live(self) -> tuple[MakeBatch, list]:
        """Rows of every learner's sources, sampled as the options stand."""
        options = self.job.options
        select, rates = plugs.load("tasks/selection", options["select"]), None
        if "pass_rates" in self.job.parents:
            rates = pass_rates(self.job)
        if "teacher_rates" in self.job.parents:
            teacher = pass_rates(self.job, "teacher_rates")
            rates = {prompt: (rate, teacher[prompt]) for prompt, rate in rates.items() if prompt in teacher}
        sources = {
            name: StepRows(policy, self.staff.policies, self.pool, select, self.job.seed, self._texts, rates, name)
            for name, policy in self.staff.students.items()
        }
        self._start_engines()

        kept = dict(options["buffer"])
        kind, off = RolloutRing if kept.pop("mixed") else RolloutBuffer, kept.pop("ahead")
        stale = off or (kept["batches"], kept["passes"]) != (1, 1)
        listeners = {} if stale else self._listeners()  # rows of a buffer are scored when their step has come

        def draw(step: int, version: int) -> dict[str, Batch]:
            made: dict[str, Batch] = {}
            with _listening(listeners):
                for name, source in sources.items():
                    now = self.conductor.options
                    made[name] = source.batch(step, now, method_of(now, name), version, made)
            return made

        def begin(step: int, version: int) -> bool:
            """Whether a server samples the rows of a step from now on."""
            now = self.conductor.options
            return self._alone() and sources[""].begin(step, now, method_of(now, ""), version)

        make = lambda step, version: draw(step, version)[""]
        buffer = RolloutsAhead(make, begin, options["steps"]) if off else kind(make, **kept) if stale else None

        def make_batch(step: int) -> dict[str, Batch]:
            made = {"": buffer.batch(step)} if buffer else draw(step, step - 1)
            return self._finished(made)

        return make_batch, [buffer] if buffer else []

    def cached(self) -> tuple[MakeBatch, list]:
        """Rollouts and scores from files: nobody samples."""
        rows, count = None, self.job.options["prompts"] * self.job.options["sampling"]["n"]
        for name, teaching in self.staff.teachings.items():
            if teaching.scores:
                parent = self.job.manifests[teaching.scores]["parents"]["rollouts"]["path"]
                rows = read_rollouts(self.job.results / parent) if rows is None else rows
                rows = with_scores(rows, self.job.path(teaching.scores), name)

        def make_batch(step: int) -> dict[str, Batch]:
            batch = fixed_rows(rows, self.job.seed, step, count)
            return self._finished(
                {name: Batch(batch.rows, metrics=rollout_metrics(batch.rows)) for name in self.staff.students}
            )

        return make_batch, []

    def _finished(self, made: Mapping[str, Batch]) -> dict[str, Batch]:
        """Judged, shown to the teachers, with what the objectives look at."""
        budget = self.conductor.options["sampling"]["max_new_tokens"]
        rows_of = {name: batch.rows for name, batch in made.items()}
        out = {}
        for name, batch in made.items():
            if not len(batch.rows):
                out[name] = batch
                continue
            bench = Bench(
                self.staff.students, self.staff.teachers, self.pool, budget, self.job.seed, self._answers, name, rows_of
            )
            rows, apart = batch.rows, told_apart(batch.rows, self.pool, self.job.options["by"], batch.metrics)
            metrics = {**batch.metrics, **apart}
            for judge in [judge for judge in self._judges if judge.EVERY or not name]:
                rows, figures = judge.judge(rows, bench)
                metrics |= figures
            metrics["teacher_rows"] = float(len(rows) * self._reading(name))
            for teacher in self._teachers[name].values():
                rows = teacher.prepare(rows)
            out[name] = replace(batch, rows=rows, columns=dict(batch.columns) | self._outcome(name, rows), metrics=metrics)
        return out

    def _reading(self, name: str) -> int:
        """How many teachers of a learner run a model on a row; of those among whom rows are routed, one."""
        known = self.staff.teachings
        behind = {other for teaching in known.values() for other in teaching.others}
        tables = lambda teaching: teaching.scores or any(known[other].scores for other in teaching.others)
        return sum(not tables(known[teacher]) for teacher in self._teachers[name] if teacher not in behind)

    def _outcome(self, name: str, rows: Trajectory) -> dict[str, torch.Tensor]:
        """Column "outcome", where a term asks for it."""
        if name not in self._outcomes:
            return {}
        if "advantage" in rows.extra:
            return {"outcome": torch.tensor(rows.extra["advantage"])}
        return {"outcome": outcome_B(rows, method_of(self.job.options, name))}

    def _start_engines(self) -> None:
        """Engines of teachers and of the student, for the longest rows that there can be. Cheap checks come before any start."""
        job, pool = self.job, self.pool
        longest = max(version["sampling"]["max_new_tokens"] for version in versions(job.options))
        columns = sorted(set(text_columns(job.options)))
        for name, teacher in self.staff.engines.items():
            teaching = self.staff.teachings[name]
            texts_B = [0] * len(pool)
            for column in columns:
                written, ids = self._texts(column), range(len(pool))
                texts_B = [max(t, len(behind)) for t, behind in zip(texts_B, woven(written.rows(ids))[0], strict=True)]
            shown = seen(plugs.load("teachers/contexts", teaching.context), pool, job.seed)
            lengths = ((len(c), max(row_room(job, longest), t)) for c, t in zip(shown, texts_B, strict=True))
            start_teacher(job, teacher, teaching.model, teaching.engine, teaching.engine_key, lengths)
        roles = starts(job.options)
        for name, student in self.staff.students.items():
            if job.options["engine"]["name"] != "local" and samples(job.options, name):
                student.engine = sampling_engine(job, roles[name], pool, longest, learns=True)

    def _alone(self) -> bool:
        """Whether servers sample, and nobody answers them."""
        world = plugs.load("tasks/worlds", self.job.manifests["data"]["facts"]["task"])
        return not world.ANSWERS and self.job.options["engine"]["name"] == "server"

    def _listeners(self) -> dict[Policy, list[Callable]]:
        """Students that servers sample for, and what is done with a row of theirs as it ends: teachers that are servers as well, and read
        rows as they are, score it while others are still sampled."""
        known = self.staff.teachings
        if not self._alone():  # where somebody answers, what ends is a turn
            return {}
        behind = {other for teaching in known.values() for other in teaching.others}  # to whom but some of the rows come
        serves = lambda name: known[name].engine["name"] == "server" and known[name].context["name"] == "plain"
        return {
            student: [self.staff.engines[t].ahead for t in self._teachers[name] if t not in behind and serves(t)]
            for name, student in self.staff.students.items()
        }


@contextmanager
def _listening(listeners: Mapping[Policy, Sequence[Callable]]) -> Iterator[None]:
    """Meanwhile rows that end are told of: those of a step alone, not what hooks look at."""
    tell = lambda heard: lambda context, tokens: [each(context, tokens) for each in heard]
    for student, heard in listeners.items():
        if student.engine:
            student.engine.listener = tell(heard)
    try:
        yield
    finally:
        for student in listeners:
            if student.engine:
                student.engine.listener = None


def pass_rates(job: Job, role: str = "pass_rates") -> dict[int, float]:
    """Share of correct samples, or mean reward, by prompt, from a rollouts table."""
    rows, found = read_rollouts(job.path(role)), defaultdict(list)
    for prompt, reward in zip(rows.prompt_B.tolist(), rows.reward_B.tolist(), strict=True):
        found[prompt].append(reward)
    return {prompt: sum(rewards) / len(rewards) for prompt, rewards in found.items()}
