"""Write the plan (opd_steps.graph.outline) of a checked config."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from opd_steps.errors import disk_errors, one_line_errors
from opd_steps.graph import outline
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.store.files import write_json
from opd_steps.store.fingerprint import digest
from opd_steps.store.views import MADE_OF, made_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the checked config.yaml as JSON")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    root = json.loads(args.config)
    with one_line_errors(), disk_errors(args.out):
        graph = checked(Graph.of(root))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        made = outline.make(graph, root)
        view = {MADE_OF: made_of(digest(made), [])} | made
        write_json(args.out, view, sort_keys=False)  # the report shows nodes in the author's order


if __name__ == "__main__":
    main()
