"""What becomes of one input: something is run on it in a fork, with the input's folder as its own; then its words are judged."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LIMIT = 60  # seconds


@dataclass(frozen=True)
class Outcome:
    status: int
    said: str
    changed: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Ours, each once: Snakemake shows the log of a job that fails."""
        return list(dict.fromkeys(line.strip() for line in self.said.splitlines() if "distillery:" in line))

    def fault(self, places: tuple[str, ...], must_fail: bool = False) -> str:
        """What is wrong with it, else "". `places`: one of them stands in the line that refuses the input."""
        if "Traceback (most recent call last)" in self.said:
            last = [line for line in self.said.splitlines() if line.strip()][-1]
            return f"traceback: {last[:150]}"
        if self.changed:
            return f"changed the user's {', '.join(self.changed)}"
        if self.status == 0:
            return "taken, though it is broken" if must_fail else ""
        if self.status < 0 or self.status == 124:
            return f"ended by signal {-self.status}" if self.status < 0 else f"no end in {LIMIT} s"
        if not 1 <= len(self.lines) <= 2:
            return f"status {self.status} and {len(self.lines)} lines of ours: {self.said[-300:]!r}"
        if self.status != 2:
            return f"status {self.status}: {self.lines[0][:200]}"
        error = next((line for line in self.lines if "distillery: error: " in line), "")
        if not any(place in error for place in places):
            return f"names none of {', '.join(places)}: {error[:200]}"
        return ""


def files(folder: Path) -> dict[str, str]:
    """Hashes of all files of the user; results are ours."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] not in ("results", ".snakemake", "logs") and path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def outcome(folder: Path, work: Callable[[], None]) -> Outcome:
    """Run `work` in a fork of this process, in `folder`."""
    before = files(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            _work(folder, work, said.fileno())
        _, status = os.waitpid(child, 0)
        said.seek(0)
        text = said.read().decode(errors="replace")
    after = files(folder)
    changed = tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
    return Outcome(os.waitstatus_to_exitcode(status), text, changed)


def _work(folder: Path, work: Callable[[], None], said: int) -> None:
    code = 1
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1, errors="replace", closefd=False) for fd in (1, 2))
        signal.signal(signal.SIGALRM, lambda *_: os._exit(124))
        signal.alarm(LIMIT)
        os.chdir(folder)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
