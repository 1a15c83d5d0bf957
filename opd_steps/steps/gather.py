"""The manifests of a paper's results, as one file that changes when any of them does."""

from __future__ import annotations

import argparse
from pathlib import Path

from opd_steps.errors import disk_errors, one_line_errors
from opd_steps.findings.results import Plan
from opd_steps.store.artifacts import MANIFEST
from opd_steps.store.files import write_json
from opd_steps.store.views import MADE_OF, made_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--paper", required=True)
    parser.add_argument("--out", required=True, type=Path, help="JSON to write: the manifests, and a digest of them all")
    args = parser.parse_args()
    with one_line_errors(), disk_errors(args.out):
        plan = Plan.read(args.plan, args.results)
        found = [path for path, node in plan.everything().items() if node["owner"] == args.paper]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        whole = made_of("", [args.results / path / MANIFEST for path in found])
        write_json(args.out, {MADE_OF: whole, "results": sorted(found)})


if __name__ == "__main__":
    main()
