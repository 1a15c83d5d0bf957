"""The track step: imports every published result into MLflow and writes an index of runs, but only when all of it is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from opd_steps.artifacts import write_json
from opd_steps.errors import UserError, one_line_errors
from opd_steps.report.results import Plan
from opd_steps.tracking.importer import import_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True, type=Path, help="JSON of the resolved workflow (rules/common.smk)")
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="JSON to write: path of a result, or paper -> MLflow run id")
    args = parser.parse_args()
    with one_line_errors():
        index = import_results(Plan.read(args.plan, args.results))
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(args.out, index)
        except OSError as error:
            raise UserError(str(args.out), f"cannot write this file: {error.strerror}") from None


if __name__ == "__main__":
    main()
