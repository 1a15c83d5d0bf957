"""Files of the user that a node reads by a local path - data, checkpoints, tokenizers: their content is part of what the result depends on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from opd_steps.errors import UserError
from opd_steps.store.fingerprint import file_entry

MOST = 10_000  # files of a data set
SMALL = 64 << 20  # bytes; smaller files are read anew whenever a workflow starts


@dataclass(frozen=True)
class Given:
    """A path or hub id that a node names, and the files that count where it is a folder."""

    path: str
    files: tuple[str, ...] = ("**/*",)


def here(path: str) -> Path | None:
    """The file or folder of this machine that is named; None for a hub id, and for what no path can be."""
    try:
        found = Path(path).expanduser()
        return found if found.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, nobody's home, a character that no path has
        return None


def is_there(path: str) -> bool:
    return here(path) is not None


def hashes(named: dict[str, Given], known: dict | None = None, since_ns: int = 0) -> dict[str, dict[str, dict]]:
    """{key: {file below the path: {sha256, bytes}}} of what a node names, by its keys, and is there; nothing of hub ids.

    `known`: an earlier answer. A large file keeps its hash in it if its size is the same and nothing touched it after `since_ns`.
    """
    found = {}
    for key, given in named.items():
        if path := here(given.path):
            old = (known or {}).get(key, {})
            found[key] = {name: _entry(file, old.get(name), since_ns) for name, file in _files(path, given.files)}
    return found


def _files(path: Path, patterns: tuple[str, ...]) -> list[tuple[str, Path]]:
    """A file, or the visible files of a folder that match, by their names below it. Raises UserError for a folder of too many."""
    names = (p for pattern in patterns for p in path.glob(pattern) if p.is_file())
    files = sorted(set(islice(names, MOST + 1))) if path.is_dir() else [path]
    if len(files) > MOST:
        raise UserError(str(path), f"more than {MOST:,} files lie below this folder: expected that of one data set")
    visible = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    return [(str(p.relative_to(path)), p) for p in visible]


def _entry(file: Path, known: dict | None, since_ns: int) -> dict:
    stat = file.stat()
    untouched = max(stat.st_mtime_ns, stat.st_ctime_ns) <= since_ns
    if known and known["bytes"] == stat.st_size > SMALL and untouched:
        return known
    return file_entry(file)
