"""What a run says of itself while it works: after each job how much is done, what runs, how long it will take; at its end what failed, and why.

A handler of Snakemake's own logger, so that it needs no plugin and no flag. Plain lines, on a terminal and in a file alike.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from statistics import median

LOOKED_AT = 40  # earlier results of a kind
NAMED = 3  # running jobs in a line
LAST_LINES = 15  # of a failed job's log
ERROR = "distillery: error: "  # how the line of a step's own error begins
EVERY = 1.0  # seconds between two lines, but for the last one


class Progress(logging.Handler):
    """`kinds`: the rules of the jobs that are to be done. Lines go to `out`."""

    def __init__(self, results: Path, kinds: Counter[str], cores: int, out=None):
        super().__init__(logging.INFO)
        self.results, self.left, self.cores, self.out = results, kinds, cores, out or sys.stderr
        self.total, self.said_at = kinds.total(), 0.0
        self.jobs: dict[int, tuple[str, str]] = {}  # id -> rule, name for people
        self.started: dict[int, float] = {}  # of the jobs that run
        self.took: dict[str, list[float]] = {}  # rule -> seconds, of jobs of this run
        self.earlier: dict[str, float | None] = {}
        self.failed: dict[str, list[str]] = {}  # name -> its logs

    def emit(self, record: logging.LogRecord) -> None:
        """Nothing that goes wrong here may disturb the run."""
        try:
            self._take(record, time.monotonic())
        except Exception:
            self.handleError(record)

    def _take(self, record: logging.LogRecord, now: float) -> None:
        match str(getattr(record, "event", "") or "").rpartition(".")[2].lower():
            case "job_info":
                self.jobs[record.jobid] = (record.rule_name, record.rule_msg or record.rule_name)
                self.started[record.jobid] = now
            case "job_finished":
                self._ended(record.job_id, now, done=True)
            case "job_error":
                name = self.jobs.get(record.jobid, ("", record.rule_name))[1]
                self._ended(record.jobid, now, done=False)
                self.failed[name] = list(record.log)
                self._say("\n".join([f"{name}: failed", *(line for log in record.log for line in last_lines(log))]))
            case "progress" if now - self.said_at >= EVERY or record.done == record.total:
                self.said_at, self.total = now, record.total
                self._say(self.line(record.done, now))

    def _ended(self, job: int, now: float, done: bool) -> None:
        began = self.started.pop(job, None)
        kind = self.jobs.get(job, ("", ""))[0]
        if began is not None and kind:
            self.left[kind] -= 1
            if done:
                self.took.setdefault(kind, []).append(now - began)

    def line(self, done: int, now: float) -> str:
        """ "12 of 31 done, 1 failed; runs: opd: mine/vopd seed 0 (2 min); about 5 min left"."""
        parts = [f"{done} of {self.total} done" + (f", {len(self.failed)} failed" if self.failed else "")]
        if self.started:
            oldest = sorted(self.started.items(), key=lambda item: item[1])
            names = [f"{self.jobs[job][1]} ({_duration(now - began)})" for job, began in oldest[:NAMED]]
            parts.append(f"runs: {', '.join(names)}" + (f" and {len(oldest) - NAMED} more" if len(oldest) > NAMED else ""))
        if done < self.total and (left := self.seconds_left(now)):
            parts.append(left)
        return "; ".join(parts)

    def seconds_left(self, now: float) -> str:
        """By what jobs of their kind took, in this run or, before any of them has ended in it, in earlier ones; "" if nothing is known."""
        known, unknown = 0.0, []
        for kind, count in self.left.items():
            each = self._seconds(kind) if count > 0 else 0.0
            known += count * (each or 0.0)
            unknown += [kind] if each is None else []
        for job, began in self.started.items():
            known -= min(now - began, self._seconds(self.jobs[job][0]) or 0.0)
        at_once = max(1, min(max(len(self.started), self.cores), sum(max(0, n) for n in self.left.values())))
        if known <= 0:
            return ""
        return f"about {_duration(known / at_once)} left" + (f", besides {', '.join(unknown)}" if unknown else "")

    def _seconds(self, kind: str) -> float | None:
        if kind in self.took:
            return median(self.took[kind])
        if kind not in self.earlier:
            files = islice(self.results.glob(f"*/{kind}/*/seed*.timing.json"), LOOKED_AT)
            found = [seconds for file in files for seconds in _wall_s(file)]
            self.earlier[kind] = median(found) if found else None
        return self.earlier[kind]

    def close_with(self, lines: list[str]) -> None:
        """At the end of the run: what failed, each with the last line of its log, then `lines`."""
        for name, logs in self.failed.items():
            why = [found[-1].strip().removeprefix(ERROR) for log in logs if len(found := last_lines(log)) > 1]
            self._say(f"{name}: failed: {'; '.join(why) or 'its log is empty'}  ({', '.join(logs)})")
        for line in lines:
            self._say(line)

    def _say(self, text: str) -> None:
        print(f"distillery: {text}", file=self.out, flush=True)


def last_lines(log: str) -> list[str]:
    """The path of a log, and the last of its lines that are not empty, indented."""
    path = log.partition(" (")[0]
    try:
        with open(path, errors="replace") as handle:
            lines = deque((line.rstrip() for line in handle if line.strip()), LAST_LINES)
    except OSError as error:
        return [f"  {path}: {error.strerror}"]
    return [f"  {os.path.relpath(path)}, last lines:", *(f"    {line}" for line in lines)]


def _wall_s(file: Path) -> list[float]:
    try:
        return [float(json.loads(file.read_text())["wall_s"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
