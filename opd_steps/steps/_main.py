"""The command line that every step shares: `python -m opd_steps.steps.<kind> --config JSON --code JSON --out manifest.json`."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from opd_steps.artifacts import Job
from opd_steps.errors import one_line_errors


def main(step: Callable[[Job], None]) -> None:
    """Parse the command line, lock the work directory, run `step(job)`; user errors end with one line and status 2."""
    parser = argparse.ArgumentParser(description=step.__doc__)
    parser.add_argument("--config", required=True, help="canonical JSON of the node (rules/common.smk)")
    parser.add_argument("--code", default="{}", help="JSON of the source hashes that the node depends on")
    parser.add_argument("--out", required=True, type=Path, help="the manifest to write")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with one_line_errors(), Job(json.loads(args.config), json.loads(args.code), args.out) as job:
        step(job)
