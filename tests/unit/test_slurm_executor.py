"""The second look at the queue: no job is forgotten, none is waited for in vain, and looks come at a pace that fits the wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from opd_steps.slurm import executor


class Watched(executor.Executor):
    """An executor without a workflow; `said` is what it reported."""

    def __init__(self):
        self._quiet_since, self._odd, self._told, self._ended = time.monotonic(), Counter(), set(), set()
        self.workflow = SimpleNamespace(executor_settings=SimpleNamespace(init_seconds_before_status_checks=5))
        self.run_uuid, self.said = "run", []
        self.lock, self.active_jobs, self._looked_at = threading.Lock(), [], []
        self._sent, self._unsent, self._over, self.slurm_logdir = {"1"}, set(), threading.Event(), Path("logs")
        self._main_event_loop = None

    def report_job_success(self, job):
        self._ended.add(job.external_jobid)
        self.said.append((job.external_jobid, "done"))

    def report_job_error(self, job, msg="", **_):
        self._ended.add(job.external_jobid)
        self.said.append((job.external_jobid, msg))

    def report_job_submission(self, job):
        self.said.append((job.external_jobid, "submitted", str(job.aux["slurm_logfile"])))

    def cancel_jobs(self, jobs):
        self.said += [(job.external_jobid, "cancelled") for job in jobs]

    def shutdown(self):
        self.said.append("shut down")


@pytest.fixture
def watched(monkeypatch):
    """(the executor, look): look(queue, plugin) is one look; the plugin yields what it is told to, and the queue's states are given."""
    w = Watched()

    def look(queue, active=("1",), plugin=lambda self, job: None):
        async def plugins(self, jobs):
            for job in jobs:
                plugin(self, job)
            for job in ():
                yield job

        async def states(run):
            return queue

        monkeypatch.setattr(executor.Plugin, "check_active_jobs", plugins)
        monkeypatch.setattr(executor, "_states", states)
        jobs = [SimpleNamespace(external_jobid=i, job=SimpleNamespace(name="opd")) for i in active]

        async def left():
            return [job.external_jobid async for job in w.check_active_jobs(jobs)]

        return asyncio.run(left())

    return w, look


def test_an_answer_that_does_not_come_loses_no_job(watched):
    w, look = watched
    for _ in range(5):
        assert look(None, ("1", "2")) == ["1", "2"]  # the plugin itself yields none of them
    assert w.said == []


def test_what_the_plugin_reported_is_not_reported_again(watched):
    w, look = watched
    done = lambda self, job: self.report_job_success(job) if job.external_jobid == "1" else None
    assert look({"2": ("RUNNING", "None")}, ("1", "2"), done) == ["2"]
    assert w.said == [("1", "done")]


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "REVOKED", "CANCELLED"])
def test_a_final_state_that_lasts_is_an_error(watched, state):
    w, look = watched
    assert look({"1": (state, "None")}) == ["1"]
    assert look({"1": ("PENDING", "BeginTime")}) == ["1"]  # it was but on its way into the queue again
    assert look({"1": (state, "None")}) == ["1"]
    assert look({"1": (state, "None")}) == []
    assert w.said == [("1", f"Slurm job 1 ended: {state}. ")]


def test_a_job_that_slurm_forgot_is_judged_by_its_output(watched):
    w, look = watched
    assert look({}) == ["1"]
    assert look({}) == []
    assert w.said == [("1", "done")]


def test_a_job_that_waits_for_ever_is_cancelled(watched):
    w, look = watched
    assert look({"1": ("PENDING", "PartitionTimeLimit")}) == ["1"]
    assert look({"1": ("PENDING", "PartitionTimeLimit")}) == []
    assert w.said == [("1", "cancelled"), ("1", "Slurm job 1 waits for ever (PartitionTimeLimit). ")]


def test_an_interrupt_during_a_look_cancels_the_jobs_that_are_looked_at(watched):
    w, look = watched

    def interrupted(self, job):  # Snakemake's list is empty during a look
        if job.external_jobid == "1":
            self.report_job_success(job)
        if job.external_jobid == "3":
            self.active_jobs.append(SimpleNamespace(external_jobid="4"))  # submitted in the meantime
            self.cancel()

    look(None, ("1", "2", "3"), interrupted)
    assert w.said == [("1", "done"), ("4", "cancelled"), ("2", "cancelled"), ("3", "cancelled"), "shut down"]


def test_an_interrupt_between_looks_cancels_each_job_once(watched):
    w, look = watched
    look(None, ("1", "2"))
    w.active_jobs += w._looked_at
    w.cancel()
    assert w.said == [("1", "cancelled"), ("2", "cancelled"), "shut down"]


def test_an_unusual_reason_to_wait_is_told_once(watched, capsys):
    _, look = watched
    for reason in ("Priority", "PartitionDown", "PartitionDown", "Resources"):
        assert look({"1": ("PENDING", reason)}) == ["1"]
    assert capsys.readouterr().err == "distillery: Slurm job 1 (opd) waits: PartitionDown\n"


@pytest.fixture
def submitted(monkeypatch):
    """submit(errors, queue): what is said of a job whose submissions fail one after the other, the controller being away for two looks."""
    w = Watched()
    job = SimpleNamespace(name="opd", is_group=lambda: False, wildcards_dict={"paper": "p", "node": "x", "seed": "0"})

    def submit(errors, queue=()):
        answers = [False, False, True] * len(errors)

        def run_job(self, job):
            if errors:
                return self._report_job_error_threadsafe(SimpleNamespace(job=job, external_jobid=None), errors.pop(0))
            self.said.append("sbatch")

        monkeypatch.setattr(executor.Plugin, "run_job", run_job)
        monkeypatch.setattr(executor, "_answers", lambda: answers.pop(0))
        monkeypatch.setattr(executor, "_say", lambda *command: "\n".join(queue))
        monkeypatch.setattr(executor, "get_job_wildcards", lambda job: "p_x_0")
        monkeypatch.setattr(w._over, "wait", lambda seconds: w._over.is_set())
        w.run_job(job)
        return w.said

    return w, submit


FAILED = "SLURM sbatch failed. The error message was 'sbatch: error: Batch job submission failed: {}'.".format
AWAY = FAILED("Unable to contact slurm controller (connect failure)")
LOST = FAILED("Socket timed out on send/recv operation")


def test_a_submission_waits_for_the_controller(submitted, capsys):
    _, submit = submitted
    assert submit([AWAY, LOST]) == ["sbatch"]
    assert capsys.readouterr().err.count("distillery: Slurm's controller does not answer; rule opd waits for it") == 2


def test_one_whose_answer_was_lost_is_not_submitted_twice(submitted):
    """Job 1 is an earlier attempt of this run; 3 is another node's."""
    _, submit = submitted
    queue = ["1|rule_opd_wildcards_p_x_0", "3|rule_opd_wildcards_p_y_0", "4|rule_opd_wildcards_p_x_0"]
    assert submit([LOST], queue) == [("4", "submitted", "logs/rule_opd/p_x_0/4.log")]


def test_a_refused_submission_is_an_error_at_once(submitted):
    _, submit = submitted
    refused = "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: gpuu'."
    assert submit([refused]) == [(None, refused)]


def test_an_interrupt_ends_the_wait_for_the_controller(submitted):
    w, submit = submitted
    w._over.set()
    assert submit([AWAY]) == []


def test_why_a_job_failed(monkeypatch):
    shown = "JobId=7 JobName=x JobState=FAILED Reason=NonZeroExitCode Dependency=(null) ExitCode=1:0 RunTime=00:00:04 TimeLimit=00:01:00 X=1"
    monkeypatch.setattr(executor, "_say", lambda *command: shown)
    assert executor._why("7") == "Slurm's reason: NonZeroExitCode; exit code 1:0; it ran for 00:00:04, of 00:01:00 at most."
    monkeypatch.setattr(executor, "_say", lambda *command: "")
    assert executor._why("7") == "Slurm says no more of it."


@pytest.mark.parametrize(("quiet", "gap"), [(0, 5), (29, 5), (60, 10), (300, 50), (86400, 60)])
def test_the_pace(watched, monkeypatch, quiet, gap):
    w, _ = watched
    now = time.monotonic()
    monkeypatch.setattr(executor.time, "monotonic", lambda: now)
    w.next_seconds_between_status_checks = 5  # so says the plugin when something has ended
    monkeypatch.setattr(executor.time, "monotonic", lambda: now + quiet)
    assert w.next_seconds_between_status_checks == pytest.approx(gap)
    w.next_seconds_between_status_checks = 15  # nothing has
    assert w.next_seconds_between_status_checks == pytest.approx(gap)
