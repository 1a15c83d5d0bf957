"""A step that a cluster started twice: the second process waits for the first and takes its result, or goes on where it died."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from opd_steps.graph.nodes import Graph
from tests.pipeline.checkout import Checkout
from tests.pipeline.test_resume import link_to_tests, tree


class Twice:
    """The command of one node's job, run by two processes."""

    def __init__(self, copy: Checkout, monkeypatch):
        monkeypatch.chdir(copy.folder)
        node = Graph(["smoke"], "tiny").nodes["smoke", "pretrain", "base"]
        self.copy, self.folder = copy, copy.folder / "results" / node.path(0)
        self.before = tree(self.folder)
        out = str(self.folder / "manifest.json")
        step = [sys.executable, "-m", "opd_steps.steps.pretrain", "--code", json.dumps(node.code), "--out", out]
        self.command = [*step, "--config", node.job_config(0)]
        self.env = link_to_tests(copy)
        shutil.rmtree(self.folder)

    def start(self) -> subprocess.Popen:
        kept = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "bufsize": 1}
        return subprocess.Popen(self.command, cwd=self.copy.folder, env=self.env, **kept)

    def stop_once_working(self, process: subprocess.Popen) -> None:
        """SIGSTOP while it holds the lock and has saved something."""
        deadline = time.monotonic() + 120
        while not list((self.copy.folder / "results/.work").glob("*/checkpoint-*[0-9]")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGSTOP)


def said(process: subprocess.Popen, text: str) -> str:
    """Read on until the line."""
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"never said: {text}")


@pytest.fixture
def twice(copy, monkeypatch) -> Twice:
    return Twice(copy, monkeypatch)


def test_the_second_waits_and_takes_the_result(twice):
    first = twice.start()
    twice.stop_once_working(first)
    second = twice.start()
    assert f"pid {first.pid}; waiting for it, at most 600 s" in said(second, "another process works on this node: host")
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(120) == 0
    published = twice.folder.stat().st_mtime_ns
    said(second, "this result is there already, of this config, code and inputs; kept as it is")
    assert second.wait(60) == 0
    assert tree(twice.folder) == twice.before
    assert twice.folder.stat().st_mtime_ns == published
    assert list((twice.copy.folder / "results/.work").iterdir()) == []


def test_the_second_goes_on_where_the_first_died(twice):
    first = twice.start()
    twice.stop_once_working(first)
    second = twice.start()
    said(second, "waiting for it")
    first.kill()
    said(second, "resuming after step")
    assert second.wait(120) == 0
    assert tree(twice.folder) == twice.before
