"""A run of the small paper that can be cut off, what it leaves, and what an undisturbed one leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from opd_steps.store.fingerprint import file_sha256
from tests.pipeline.checkout import Checkout
from tests.pipeline.mlflow_store import stored

HERE = Path(__file__).parent
PAPER = ("--config", "papers=[chaos]")
NOT_COMPARED = (".run.lock", "mlflow.db", "mlartifacts/*", "report/mlflow.json", "*.timing.json")
"""The owner of the last run; MLflow's own files, named after random run ids, whose content is compared instead; measured times."""
MEASURED = re.compile(rb"\d+\.\d s(?=<| CPU| wall)")  # in the report


@dataclass(frozen=True)
class Moment:
    """When to kill: at the `number`-th change of files of a kind (see inside/sitecustomize.py), or `seconds` behind the start, or behind
    that of the log of a rule."""

    kind: str = ""
    number: int = 0
    seconds: float = 0.0
    log: str = ""

    def __str__(self) -> str:
        if self.kind:
            return f"{self.kind} {self.number}"
        return f"{self.seconds:.2f} s" + (f" into {self.log}" if self.log else "")


class Trial(Checkout):
    """A checkout with the paper; each run of it is a process group of its own."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        shutil.copy(HERE / "paper.yaml", folder / "workflow/papers/chaos.yaml")
        self.results, self.counts = folder / "results", folder / "counts"

    def start(self, *args: str, kill: str = "", prefix: tuple[str, ...] = (), config: tuple[str, ...] = ()) -> subprocess.Popen:
        """`snakemake <args>` in the background, said to snakemake.log; kinds of changes are counted from 0."""
        shutil.rmtree(self.counts, ignore_errors=True)
        self.counts.mkdir()
        how = self.command(*args, *PAPER, *config)
        how["args"] = [*prefix, *how["args"]]
        how["env"] |= {"PYTHONPATH": str(HERE / "inside"), "CHAOS_ROOT": str(self.folder), "CHAOS_COUNTS": str(self.counts)}
        how["env"] |= {"CHAOS_KILL": kill, "TMPDIR": self.tmp}
        with (self.folder / "snakemake.log").open("w") as log:
            return subprocess.Popen(**how, stdout=log, stdin=subprocess.DEVNULL, start_new_session=True)

    @cached_property
    def tmp(self) -> str:
        """Short, for sockets, and emptied with the trial."""
        return tempfile.mkdtemp(prefix="chaos-")

    @property
    def said(self) -> str:
        return (self.folder / "snakemake.log").read_text(errors="replace")

    def run(self, *args: str, **how) -> int:
        return self.start(*args, **how).wait(300)

    def killed_at(self, moment: Moment) -> str:
        """Run `all` and kill it and all its processes at that moment; what it was about to do. "" if it ended, well, before."""
        log = self.folder / "logs" / moment.log
        if moment.log:
            log.unlink(missing_ok=True)  # that of an earlier run
        run = self.start("all", kill=f"{moment.kind}:{moment.number}" if moment.kind else "")
        if not moment.kind:
            while moment.log and run.poll() is None and not log.exists():
                time.sleep(0.005)
            try:
                run.wait(moment.seconds)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
        status = run.wait(300)
        assert status in (0, -signal.SIGKILL), f"status {status}, to be killed at {moment}\n{self.said[-4000:]}{self.logs()}"
        self.nothing_left_behind()
        if status:
            killed = self.counts / "killed"
            return killed.read_text() if killed.exists() else str(moment)
        return ""

    def changes(self) -> dict[str, int]:
        """How many changes of files of each kind the last run has made."""
        return {counter.name: counter.stat().st_size for counter in self.counts.iterdir() if counter.name != "killed"}

    def nothing_left_behind(self) -> None:
        """No process of the run outlives its group by more than a moment."""
        mark, deadline = f"CHAOS_ROOT={self.folder}".encode(), time.monotonic() + 10
        while left := [p for p in Path("/proc").glob("[0-9]*") if mark in environment(p)]:
            assert time.monotonic() < deadline, [(p / "cmdline").read_bytes() for p in left]
            time.sleep(0.02)

    def go_on(self) -> None:
        """The documented command, to the end; then nothing is to be done."""
        assert self.run("all") == 0, self.said[-4000:] + self.logs()
        assert self.run("all", "-n") == 0 and "Nothing to be done" in self.said, self.said[-4000:]

    def begin_anew(self) -> None:
        for part in ("results", "logs", ".snakemake"):
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def logs(self) -> str:
        """The ends of what the jobs said."""
        return "".join(
            f"\n== {p}\n{p.read_text(errors='replace')[-1500:]}" for p in sorted((self.folder / "logs").rglob("*.log"))
        )

    def tracebacks(self) -> list[str]:
        """Where a traceback stands in what anybody said since the logs were last emptied."""
        places = [self.folder / "snakemake.log", *(self.folder / "logs").rglob("*.log")]
        return [
            str(p.relative_to(self.folder))
            for p in places
            if "Traceback (most recent call last)" in p.read_text(errors="replace")
        ]

    def close(self) -> None:
        shutil.rmtree(self.tmp, ignore_errors=True)

    def state(self) -> dict[str, object]:
        """All that a finished run leaves: files by name, then what MLflow holds. Two runs of the same paper are equal here."""
        files = {str(p.relative_to(self.results)): p for p in sorted(self.results.rglob("*")) if p.is_file()}
        kept = {
            name: p
            for name, p in files.items()
            if not any(Path(name).match(x) or f"{name}/".startswith(x[:-1]) for x in NOT_COMPARED)
        }
        found: dict[str, object] = {name: MEASURED.sub(b"some s", p.read_bytes()) for name, p in kept.items()}
        found["times"] = sorted(name for name in files if name.endswith(".timing.json"))
        found["left over"] = sorted(str(p.relative_to(self.results)) for p in self.results.rglob("*") if left_over(p))
        page = self.results / "report/index.html"
        found["report/claims.json"] = found["report/claims.json"].replace(file_sha256(page).encode(), b"that of the page")
        found["tracked"] = sorted(json.loads((self.results / "report/mlflow.json").read_text())["runs"])
        found["artifacts"] = len(list((self.results / "mlartifacts").iterdir()))
        return found | {f"mlflow: {node}": held for node, held in stored(self.results, times=False).items()}


def left_over(path: Path) -> bool:
    """What only a run in progress has: work folders, files written aside, folders half deleted, journals of SQLite."""
    aside = path.suffix in (".tmp", ".new") or path.name.startswith("gone-") or path.name.endswith(("-journal", "-wal"))
    return aside or path.parent.name == ".work"


def environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def differences(found: dict, expected: dict) -> list[str]:
    """Names of what is not as it should be."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
