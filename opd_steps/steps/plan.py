"""Write the plan (opd_steps.plan) of a checked config."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from opd_steps import plan
from opd_steps.errors import disk_errors, one_line_errors
from opd_steps.files import write_json
from opd_steps.fingerprint import digest
from opd_steps.graph import Graph
from opd_steps.views import MADE_OF, made_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the checked config.yaml as JSON")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    root = json.loads(args.config)
    with one_line_errors(), disk_errors(args.out):
        graph = Graph.of(root)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        made = plan.make(graph, root)
        view = {MADE_OF: made_of(digest(made), [])} | made
        write_json(args.out, view, sort_keys=False)  # the report shows nodes in the author's order


if __name__ == "__main__":
    main()
