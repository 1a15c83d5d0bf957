"""The plugin's executor with a second look at the queue.

What the plugin (2.8.0) does not do by itself: notice a job's end in a time that fits the job's length; go on waiting when Slurm
did not answer, and submit again; end the wait for a job that will never come (preempted for good, failed with its node, forgotten by
Slurm, refused for ever); say why a job waits or failed without asking an accounting database; cancel the jobs of a run that is
interrupted while it looks at the queue.
"""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator

import snakemake_executor_plugin_slurm as plugin_module
from snakemake_executor_plugin_slurm import Executor as Plugin
from snakemake_executor_plugin_slurm.utils import get_job_wildcards
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from opd_steps.slurm.srun import AWAY

LONGEST_GAP = 60.0  # seconds between two looks at most
SHARE = 1 / 6  # of the time in which nothing has ended
LOOKS = 2  # a state must last that many: a requeue passes through some of them
LIVE = {
    "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "COMPLETING", "STAGE_OUT",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD",
}  # fmt: skip
HOPELESS = {  # reasons of a pending job that time alone does not cure
    "PartitionTimeLimit", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS",
    "AssocMaxWallDurationPerJobLimit", "AssocMaxGRESPerJob", "QOSMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit",
    "QOSMaxGRESPerJob", "QOSMaxMemoryPerJob", "launch_failed_requeued_held",
}  # fmt: skip
UNSAID = "Detailed failure reason unavailable (status command is not 'sacct')."  # the plugin's words
_gres = plugin_module.set_gres_string  # the plugin's
ORDINARY = {"Priority", "Resources", "BeginTime", "None", "Prolog", ""}


class Executor(Plugin):
    @classmethod
    def watch(cls, plugin: Plugin) -> None:
        """Turn Snakemake's executor, which it has just made and which watches nothing yet, into one of this class."""
        plugin.__class__ = cls
        plugin._quiet_since, plugin._odd, plugin._told, plugin._ended = time.monotonic(), Counter(), set(), set()
        plugin._looked_at, plugin._sent, plugin._unsent, plugin._over = [], set(), set(), threading.Event()
        if plugin.workflow.executor_settings.status_command == "squeue":
            plugin_module.get_min_job_age = lambda: (
                math.inf
            )  # never by sacct: what squeue has forgotten is judged by its output
        plugin_module.set_gres_string = gpus_of_each_machine
        plugin._fallback_account_arg = ""  # no guess by sacct: without an account Slurm itself takes the user's own

    def run_job(self, job) -> None:
        """Submit a job; while the controller is away, wait for it and submit again. Called in a thread of the plugin's."""
        while not self._over.is_set():
            self._unsent.discard(id(job))
            super().run_job(job)
            if id(job) not in self._unsent:
                return
            print(f"distillery: Slurm's controller does not answer; rule {job.name} waits for it", file=sys.stderr, flush=True)
            while not _answers() and not self._over.wait(2):
                pass
            if arrived := self._arrived(job):
                return self._report_job_submission_threadsafe(arrived)

    def _arrived(self, job) -> SubmittedJobInfo | None:
        """The job as Slurm has it, if it was accepted and the answer was lost."""
        wildcards, kind = get_job_wildcards(job), "group" if job.is_group() else "rule"
        comment = f"rule_{job.name}" + (f"_wildcards_{wildcards}" if wildcards else "")
        rows = _say("squeue", "-h", "-t", "all", "-o", "%i|%k", "--name", self.run_uuid).splitlines()
        ids = [i for i, _, said in (row.partition("|") for row in rows) if said == comment and i not in self._sent]
        log = self.slurm_logdir / f"{kind}_{job.name}" / wildcards
        return SubmittedJobInfo(job, external_jobid=ids[0], aux={"slurm_logfile": log / f"{ids[0]}.log"}) if ids else None

    def report_job_submission(self, job_info, **kwargs) -> None:
        self._sent.add(job_info.external_jobid)
        super().report_job_submission(job_info, **kwargs)

    def _report_job_error_threadsafe(self, job_info, msg: str) -> None:
        """What went wrong while a job was submitted."""
        if AWAY.search(msg):
            self._unsent.add(id(job_info.job))
        else:
            super()._report_job_error_threadsafe(job_info, msg)

    def cancel(self) -> None:
        """End the run and its jobs, those too that are being looked at: Snakemake takes them off its list for so long."""
        self._over.set()
        with self.lock:
            listed = self._ended | {job.external_jobid for job in self.active_jobs}
            self.active_jobs += [job for job in self._looked_at if job.external_jobid not in listed]
        super().cancel()

    async def check_active_jobs(self, active_jobs: list) -> AsyncGenerator:
        """Yield the jobs that still work or wait; report the others."""
        self._looked_at = active_jobs
        async for _ in super().check_active_jobs(active_jobs):
            pass
        left = [job for job in active_jobs if job.external_jobid not in self._ended]  # the plugin drops all when squeue fails
        seen = await _states(self.run_uuid) if left else {}
        for job in left:
            state, reason = (seen or {}).get(job.external_jobid, ("gone", ""))
            if seen is None or (state in LIVE and reason not in HOPELESS):
                self._odd.pop(job.external_jobid, None)
                self._tell(job, state, reason)
                yield job
                continue
            self._odd[job.external_jobid] += 1
            if self._odd[job.external_jobid] < LOOKS:
                yield job
            elif state in ("gone", "COMPLETED"):  # Slurm has forgotten it: its output says whether it was done
                self.report_job_success(job)
            else:
                if state == "PENDING":
                    self.cancel_jobs([job])
                what = f"waits for ever ({reason})" if state == "PENDING" else f"ended: {state}"
                self.report_job_error(job, msg=f"Slurm job {job.external_jobid} {what}. ")

    def report_job_success(self, job_info) -> None:
        self._ended.add(job_info.external_jobid)
        super().report_job_success(job_info)

    def report_job_error(self, job_info, msg=None, **kwargs) -> None:
        self._ended.add(job_info.external_jobid)
        if msg and UNSAID in msg:
            msg = msg.replace(UNSAID, _why(job_info.external_jobid))
        super().report_job_error(job_info, msg=msg, **kwargs)

    def _tell(self, job, state: str, reason: str) -> None:
        """One line for each job and each unusual reason to wait."""
        if state == "PENDING" and reason not in ORDINARY and (job.external_jobid, reason) not in self._told:
            self._told.add((job.external_jobid, reason))
            print(f"distillery: Slurm job {job.external_jobid} ({job.job.name}) waits: {reason}", file=sys.stderr, flush=True)

    @property
    def next_seconds_between_status_checks(self) -> float:
        """Seconds to the next look: a share of the time in which nothing has ended, between the profile's and LONGEST_GAP."""
        first = self.workflow.executor_settings.init_seconds_before_status_checks
        return max(first, min((time.monotonic() - self._quiet_since) * SHARE, LONGEST_GAP))

    @next_seconds_between_status_checks.setter
    def next_seconds_between_status_checks(self, value: float) -> None:
        if value == self.workflow.executor_settings.init_seconds_before_status_checks:  # something has ended, or nothing works
            self._quiet_since = time.monotonic()

    async def sleep(self) -> None:
        """Until the next look, or the run's end."""
        until = time.monotonic() + self.next_seconds_between_status_checks
        while self.wait and time.monotonic() < until:
            await asyncio.sleep(0.5)


def gpus_of_each_machine(job) -> str:
    """sbatch's words for a job's GPUs, so many on each of its machines: of their sum Slurm might give more on one than on another."""
    return _gres(job).replace("--gpus=", "--gpus-per-node=")


def _say(*command: str) -> str:
    """stdout of a Slurm command, "" if it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _answers() -> bool:
    """Does the controller?"""
    return " is UP" in _say("scontrol", "ping")


def _why(job: str) -> str:
    """What the controller knows of a job's end."""
    said = dict(re.findall(r"\b(Reason|ExitCode|RunTime|TimeLimit)=(\S+)", _say("scontrol", "-o", "show", "job", job)))
    if len(said) < 4:
        return "Slurm says no more of it."
    return f"Slurm's reason: {said['Reason']}; exit code {said['ExitCode']}; it ran for {said['RunTime']}, of {said['TimeLimit']} at most."


async def _states(run: str) -> dict[str, tuple[str, str]] | None:
    """(state, reason) of the run's jobs that Slurm remembers; None when it does not answer."""
    command = ("squeue", "-h", "-t", "all", "-o", "%i|%T|%r", "--name", run)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    try:
        out, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    except TimeoutError:
        process.kill()
        return None
    if process.returncode:
        return None
    rows = (line.split("|", 2) for line in out.decode().splitlines())
    return {job: (state, reason.strip("() ").replace(" ", "_")) for job, state, reason in rows}
