"""JSON and JSONL on disk: written whole or not at all, read with the place of the first mistake."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from opd_steps.errors import UserError


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
