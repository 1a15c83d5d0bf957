"""Which jobs run: Snakemake's graph, asked by our reasons in the place of its own records and file times.

A job runs when its output is missing or it has none, when `reasons` has one for it, when the user forces it, or when a job runs whose
output it reads (`ancient` input aside). Snakemake's metadata, which can be lost, and file times, which a copy changes, decide nothing.
Both stand in one method of snakemake.dag.DAG, DAG.update_needrun, which is replaced here as a whole; there is no plugin for it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import ClassVar

import snakemake.workflow
from snakemake.dag import DAG
from snakemake.jobs import Reason


class Why(Reason):
    """Snakemake's reason of a job, with one more: `why` its result is not that of the node as it is now."""

    __slots__ = ("why",)

    def clear(self) -> None:
        super().clear()
        self.why = ""

    def __bool__(self) -> bool:
        return super().__bool__() or (bool(self.why) and not self.finished)

    def __str__(self) -> str:
        return "; ".join(filter(None, [self.why, super().__str__()]))

    def get_names(self):
        yield from super().get_names()
        if self.why:
            yield "result is of another config, code or input"


class TimelessDag(DAG):
    """The graph of jobs of any process of a run."""

    async def check_output_mtime(self, *_: object, **__: object) -> None:
        """A job whose output is older than its input did not fail for that: clocks are set back, and those of two machines differ."""


class ManifestDag(TimelessDag):
    """The graph of jobs of a run's main process."""

    reasons: ClassVar[dict[str, str]] = {}  # a job's first output -> why it is made again

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._reason = defaultdict(Why)

    async def check_incomplete(self) -> None:
        """What a job publishes is whole or is not there: marks that Snakemake left when it was killed say nothing."""

    async def update_needrun(self, create_inventory: bool = False) -> None:
        self._needrun.clear()
        self._n_until_ready.clear()
        self._ready_jobs.clear()
        for job in (job for level in self.toposorted() for job in level if not self.finished(job)):
            reason = self.reason(job)
            reason.forced = self._is_forced(job)
            reason.nooutput = not (job.output or job.is_norun)  # it says something
            reason.why = self.reasons.get(job.output[0], "") if job.output else ""
            reason.missing_output.update(file for file in job.output if not os.path.exists(file))
            for other, files in self.dependencies[job].items():
                if other in self._needrun:
                    reason.updated_input_run.update(file for file in files if not file.is_ancient)
            if reason:
                self._needrun.add(job)
        for job in self._needrun:
            self._n_until_ready[job] = sum(other in self._needrun for other in self.dependencies[job])
        self._len = len(self._finished | self._needrun)

    def forced_by_user(self) -> list[str]:
        """Outputs of the jobs that the user asks to run whatever there is."""
        return [file for job in self.needrun_jobs() if self.reason(job).forced for file in job.output]

    def _is_forced(self, job) -> bool:
        return (job not in self.omitforce and job.rule in self.forcerules) or not self.forcefiles.isdisjoint(job.output)


def decide_by(reasons: dict[str, str] | None) -> None:
    """Let the workflow that is being read build such a graph. None: in a process that runs jobs which another has chosen."""
    ManifestDag.reasons = reasons or {}
    snakemake.workflow.DAG = TimelessDag if reasons is None else ManifestDag
