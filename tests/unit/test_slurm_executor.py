"""The second look at the queue: no job is forgotten, none is waited for in vain, and looks come at a pace that fits the wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
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

    def report_job_success(self, job):
        self._ended.add(job.external_jobid)
        self.said.append((job.external_jobid, "done"))

    def report_job_error(self, job, msg="", **_):
        self._ended.add(job.external_jobid)
        self.said.append((job.external_jobid, msg))

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


@pytest.mark.parametrize(("quiet", "gap"), [(0, 5), (29, 5), (60, 10), (300, 50), (86400, 60)])
def test_the_pace(watched, monkeypatch, quiet, gap):
    w, _ = watched
    now = time.monotonic()
    monkeypatch.setattr(executor.time, "monotonic", lambda: now)
    w.next_seconds_between_status_checks = 5  # so says the plugin when something has ended
    monkeypatch.setattr(executor.time, "monotonic", lambda: now + quiet)
    assert w.next_seconds_between_status_checks == gap
    w.next_seconds_between_status_checks = 15  # nothing has
    assert w.next_seconds_between_status_checks == gap
