"""The track step: imports every published result into MLflow and writes an index of runs, but only when all of it is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from opd_steps.errors import disk_errors, one_line_errors
from opd_steps.findings.results import Plan
from opd_steps.store.files import write_json
from opd_steps.store.views import MADE_OF, made_of
from opd_steps.tracking.importer import import_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True, type=Path, help="JSON of the resolved workflow (rules/common.smk)")
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help="JSON to write: path of a result, or paper -> run id",
    )
    parser.add_argument("--code", default="", help="digest of this step's source")
    parser.add_argument("--inputs", nargs="*", default=[], type=Path, help="all files that the job reads")
    args = parser.parse_args()
    with one_line_errors(), disk_errors(args.out):
        made = made_of(args.code, args.inputs)  # before they are read: what changes meanwhile is imported by the next run
        index = {MADE_OF: made, "runs": import_results(Plan.read(args.plan, args.results))}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, index)


if __name__ == "__main__":
    main()
