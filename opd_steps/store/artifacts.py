"""Results on disk: a work directory keyed by fingerprint, one atomic publish, a manifest that vouches for every file.

results/<paper>/<kind>/<node>/seed<k>/   manifest.json, and the files it names   (published, never half-written)
results/<paper>/<kind>/<node>/seed<k>/parts/<part>/   model/ and what else belongs to a model beside the main one
results/.work/<node>-<fingerprint>/      checkpoints of a running or killed job  (removed when published)
results/<paper>/<kind>/<node>/seed<k>.timing.json   wall and CPU time, a training's by phase: real, hence not part of the manifest
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
from opd_steps.store.files import remove, write_json
from opd_steps.store.fingerprint import ROOT, digest, file_entry, file_sha256
from opd_steps.store.lock import acquire
from opd_steps.store.metrics import not_finite
from opd_steps.store.sources import Given, hashes

MANIFEST = "manifest.json"


def sealed(manifest: dict) -> dict:
    """The manifest with a digest of itself: what was edited or cut off is no manifest."""
    return {**manifest, "sha256": digest(manifest)}


def is_whole(manifest: object) -> bool:
    """Whether it is a manifest as it was written."""
    try:
        return manifest["sha256"] == digest({key: value for key, value in manifest.items() if key != "sha256"})
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def content(manifest: dict) -> str:
    """What the nodes that read this result depend on: its files, what it says of them, and the same of all that it was made from."""
    parents = {role: parent["content"] for role, parent in manifest["parents"].items()}
    return digest({"files": manifest["files"], "facts": manifest["facts"], "parents": parents})


def read_manifest(folder: Path) -> dict:
    """Raises UserError when it is missing, cut off or edited."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(str(path), "this result does not exist yet; run its job first") from None
    except (OSError, ValueError):
        manifest = None
    if not is_whole(manifest):
        raise UserError(str(path), "not a manifest as a job writes it; run the workflow again, it makes this result anew")
    return manifest


def damage(folder: Path, manifest: dict, full: bool = False) -> str | None:
    """The first file that is gone or not what the manifest says, else None.

    Content is hashed when a file was touched after its manifest, which is written last, or always with `full`.
    """
    written = (Path(folder) / MANIFEST).stat().st_ctime_ns
    for name, entry in manifest["files"].items():
        path = Path(folder) / name
        try:
            stat = path.stat()
            doubtful = full or max(stat.st_mtime_ns, stat.st_ctime_ns) > written
            if stat.st_size != entry["bytes"] or (doubtful and file_sha256(path) != entry["sha256"]):
                return f"{path} is damaged"
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
    return None


@cache
def git_commit() -> str:
    """Commit of the checkout, with "+" when tracked files differ from it; "" outside git."""
    try:
        run = lambda *a: subprocess.run(["git", *a], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        return run("rev-parse", "HEAD") + ("+" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def sweep(results: Path) -> None:
    """Delete the work directories of jobs that were killed when they had published and not yet cleared up: nobody runs them again."""
    for work in (results / ".work").glob("*-*"):
        place, _, fingerprint = work.name.rpartition("-")
        try:
            if read_manifest(results.joinpath(*place.rsplit(".", 3)))["fingerprint"].startswith(fingerprint):
                with acquire(work / "lock", "another process works on this node"):
                    shutil.rmtree(work, ignore_errors=True)
        except UserError:  # not published, or its job is just ending, on another machine of a cluster
            pass


class Job:
    """One node and seed being made: where it works, what it reads, and its publication."""

    def __init__(
        self,
        config: dict,
        code: dict[str, str],
        out: Path,
        named: dict[str, Given] | None = None,
        wait: float = 0.0,
        writes: bool = True,
    ):
        """`config`: the job's canonical config (graph.GraphNode.job_config); `out`: its manifest's path; `named`: the user's own
        files that the options name (`sources` of the kind).

        `wait`: seconds to wait for another process that works on this node, before it is refused. `writes`: False in all but one
        of the processes that are this job together; they lock nothing and leave no file.
        """
        self.config, self.code, self.wait, self.writes = config, code, wait, writes
        self.folder = Path(out).parent
        self.results = self.folder.parents[3]
        self.kind, self.seed, self.options = config["kind"], config["seed"], config["options"]
        read = {role: path.partition(":") for role, path in config["parents"].items()}
        self.parents = {role: self.results / path for role, (path, _, _) in read.items()}
        self.parts = {role: part for role, (_, _, part) in read.items()}
        found = {path: read_manifest(path) for path in self.parents.values()}
        for path, manifest in found.items():
            if broken := damage(path, manifest, full=writes):
                raise UserError(broken, "run the workflow again, it makes this result anew")
        self.manifests = {role: found[path] for role, path in self.parents.items()}
        try:
            self.sources = hashes(named or {})
        except OSError as error:
            raise UserError(str(error.filename), f"cannot be read: {error.strerror}") from None
        self._made_of = {
            "config": config,
            "code": code,
            "sources": self.sources,
            "parents": {r: {"path": config["parents"][r], "content": content(m)} for r, m in self.manifests.items()},
        }
        self.fingerprint = digest(self._made_of)
        place = ".".join(self.folder.parts[-4:])  # two nodes of one content are still two
        self.work = self.results / ".work" / f"{place}-{self.fingerprint[:12]}"
        self.stage, self._notes = self.work / "publish", self.work / "notes"
        self._started, self._lock = time.time(), None
        self.measured: dict = {}  # of this process, so far: for timing.json and tracking.live

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
        """Is this very result there already, whole? Another process made it, or what this one reads was made anew and came out the same."""
        try:
            manifest = read_manifest(self.folder)
        except UserError:
            return False
        return manifest["fingerprint"] == self.fingerprint and damage(self.folder, manifest, full=True) is None

    @property
    def name(self) -> str:
        """paper/kind/node/seed, as errors name it."""
        return "/".join(self.folder.parts[-4:])

    def path(self, role: str, file: str = "") -> Path:
        """The folder of what it reads in this role, the node's or that of its part, or a file there."""
        part = self.parts[role]
        return self.parents[role] / (Path("parts", part) if part else "") / file

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
            **self._made_of,
            "files": {str(p.relative_to(self.stage)): file_entry(p) for p in files},
            "metrics": metrics,
            "facts": facts,
            "git_commit": git_commit(),
        }
        write_json(self.stage / MANIFEST, sealed(manifest))
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._write_timing()  # nobody runs again what is published: it comes last
        if self.folder.exists():
            shutil.rmtree(self.work / "replaced", ignore_errors=True)
            os.rename(self.folder, self.work / "replaced")
        os.rename(self.stage, self.folder)
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
            **self.measured,
        }
        write_json(self.folder.with_name(self.folder.name + ".timing.json"), timing)
