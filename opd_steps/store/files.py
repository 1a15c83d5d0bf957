"""JSON and JSONL on disk, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

# all that loading a checkpoint needs; never a pickle. Its own code, *.py, is run only where a family's option allows it
CHECKPOINT_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.py")
PIPELINE_PARTS = ("transformer", "scheduler", "text_encoder*", "tokenizer*", "vae")  # folders of one of diffusers
PIPELINE_FILES = tuple(f"{part}/{pattern}" for part in PIPELINE_PARTS for pattern in CHECKPOINT_FILES)


def write_json(path: Path, value: object, sort_keys: bool = True) -> None:
    """Write and rename: a reader never sees half a file."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(json.dumps(value, indent=1, sort_keys=sort_keys) + "\n")
    os.replace(scratch, path)


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    with scratch.open("w") as file:
        file.writelines(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
    os.replace(scratch, path)


def remove(folder: Path) -> None:
    """Delete a folder, renamed first: after a death in between nothing half-deleted goes by the name of the whole."""
    gone = folder.with_name(f"gone-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(folder, gone)
    shutil.rmtree(gone)
