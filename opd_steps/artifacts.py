"""Results on disk: a work directory keyed by fingerprint, one atomic publish, a manifest that vouches for every file.

results/<paper>/<kind>/<node>/seed<k>/   manifest.json, and the files it names   (published, never half-written)
results/.work/<fingerprint>/             checkpoints of a running or killed job  (removed when published)
results/<paper>/<kind>/<node>/seed<k>.timing.json   wall and CPU time: real, hence not part of the manifest
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from opd_steps.errors import UserError
from opd_steps.fingerprint import ROOT, digest, file_sha256
from opd_steps.lock import acquire
from opd_steps.metrics import not_finite

MANIFEST = "manifest.json"


def write_json(path: Path, value: object, sort_keys: bool = True) -> None:
    """Write and rename: a reader never sees half a file."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(json.dumps(value, indent=1, sort_keys=sort_keys) + "\n")
    os.replace(scratch, path)


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text("".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows))
    os.replace(scratch, path)


def remove(folder: Path) -> None:
    """Delete a folder, renamed first: after a death in between nothing half-deleted goes by the name of the whole."""
    gone = folder.with_name(f"gone-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(folder, gone)
    shutil.rmtree(gone)


def read_jsonl(path: Path) -> list[dict]:
    """Rows of a JSONL file; raises UserError with the line number of the first one that is not a JSON object."""
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # splitlines() would also cut at U+2028 inside a text
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"cannot read this data file: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}", f"not valid JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}", f"expected a JSON object, found {type(row).__name__}")
        rows.append(row)
    return rows


def read_manifest(folder: Path) -> dict:
    path = Path(folder) / MANIFEST
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(str(path), "this result does not exist yet; run its job first") from None
    except json.JSONDecodeError:
        raise UserError(str(path), "not a manifest; delete it and run again") from None


def damage(folder: Path, manifest: dict, full: bool = False) -> str | None:
    """The first file that is gone or not what the manifest says, else None.

    Content is hashed when a file is younger than its manifest, which is written last, or always with `full`.
    """
    written = (Path(folder) / MANIFEST).stat().st_mtime_ns
    for name, entry in manifest["files"].items():
        path = Path(folder) / name
        try:
            stat = path.stat()
        except OSError:
            return f"{path} is missing"
        doubtful = full or stat.st_mtime_ns > written
        if stat.st_size != entry["bytes"] or (doubtful and file_sha256(path) != entry["sha256"]):
            return f"{path} is damaged"
    return None


@cache
def git_commit() -> str:
    """Commit of the checkout, with "+" when tracked files differ from it; "" outside git."""
    try:
        run = lambda *a: subprocess.run(["git", *a], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        return run("rev-parse", "HEAD") + ("+" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


class Job:
    """One node and seed being made: where it works, what it reads, and its publication."""

    def __init__(self, config: dict, code: dict[str, str], out: Path, wait: float = 0.0, writes: bool = True):
        """`config`: the job's canonical config (graph.GraphNode.job_config); `out`: its manifest's path.

        `wait`: seconds to wait for another process that works on this node, before it is refused. `writes`: False in all but one
        of the processes that are this job together; they lock nothing and leave no file.
        """
        self.config, self.code, self.wait, self.writes = config, code, wait, writes
        self.folder = Path(out).parent
        self.results = self.folder.parents[3]
        self.kind, self.seed, self.options = config["kind"], config["seed"], config["options"]
        self.parents = {role: self.results / path for role, path in config["parents"].items()}
        self.manifests = {role: read_manifest(path) for role, path in self.parents.items()}
        for role, path in self.parents.items():
            if broken := damage(path, self.manifests[role], full=writes):
                raise UserError(broken, f"delete {path / MANIFEST} and run again")
        self.fingerprint = digest(
            {"config": config, "code": code, "parents": {r: m["fingerprint"] for r, m in self.manifests.items()}}
        )
        place = ".".join(self.folder.parts[-4:])  # two nodes of one content are still two
        self.work = self.results / ".work" / f"{place}-{self.fingerprint[:12]}"
        self.stage, self._notes = self.work / "publish", self.work / "notes"
        self._started, self._lock = time.time(), None

    def __enter__(self) -> Job:
        if not self.writes:
            return self
        self._lock = acquire(self.work / "lock", "another process works on this node", self.wait)
        shutil.rmtree(self.stage, ignore_errors=True)
        self.stage.mkdir()
        if self._notes.exists():
            print(self._notes.read_text(), end="", flush=True)
        return self

    def note(self, text: str) -> None:
        """Say it in the log of this attempt and, first thing, of every later one: Snakemake empties a log when its job starts anew."""
        if not self.writes:
            return
        print(text, file=sys.stderr, flush=True)
        with self._notes.open("a") as notes:
            notes.write(f"earlier: {text}\n")

    def __exit__(self, *_: object) -> None:
        if self._lock:
            self._lock.close()

    def done(self) -> bool:
        """Has another process published this very result, whole? (Snakemake deletes the manifest of a job that it starts.)"""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text())
            return manifest["fingerprint"] == self.fingerprint and damage(self.folder, manifest, full=True) is None
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def name(self) -> str:
        """paper/kind/node/seed, as errors name it."""
        return "/".join(self.folder.parts[-4:])

    def path(self, role: str, file: str = "") -> Path:
        return self.parents[role] / file

    def publish(self, metrics: dict[str, float], facts: dict) -> None:
        """Move everything in `stage` to the node's folder in one rename, manifest included.

        `metrics`: final figures by name. `facts`: what other nodes ask about this one (tokenizer, tokens, teacher, ...).
        Raises UserError, and leaves everything as it is, when a figure is not finite.
        """
        if bad := not_finite(metrics):
            raise UserError(self.name, f"{bad}; nothing is published")
        if not self.writes:
            return
        files = sorted(p for p in self.stage.rglob("*") if p.is_file())
        manifest = {
            "kind": self.kind,
            "node": self.folder.parent.name,
            "paper": self.folder.parents[2].name,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "config": self.config,
            "code": self.code,
            "parents": {
                role: {"path": self.config["parents"][role], "fingerprint": m["fingerprint"]}
                for role, m in self.manifests.items()
            },
            "files": {str(p.relative_to(self.stage)): {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in files},
            "metrics": metrics,
            "facts": facts,
            "git_commit": git_commit(),
        }
        write_json(self.stage / MANIFEST, manifest)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if self.folder.exists():
            os.rename(self.folder, self.work / "replaced")
        os.rename(self.stage, self.folder)
        self._write_timing()
        self.clear()

    def clear(self) -> None:
        """Delete the work directory, as its checkpoints are of no more use."""
        for part in self.work.glob("*/"):
            remove(part)
        shutil.rmtree(self.work, ignore_errors=True)

    def _write_timing(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        timing = {
            "started": self._started,
            "wall_s": time.time() - self._started,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_mib": usage.ru_maxrss / 1024,
        }
        write_json(self.folder.with_name(self.folder.name + ".timing.json"), timing)
