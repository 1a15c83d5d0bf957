"""Preflight as a job: what a paper compares must fit, before any training."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from opd_steps.errors import disk_errors, one_line_errors
from opd_steps.graph.agreement import check, rows
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.store.files import write_json
from opd_steps.store.views import MADE_OF, made_of
from opd_steps.tasks.room import check_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="canonical JSON of config.yaml")
    parser.add_argument("--paper", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--code", default="", help="digest of this step's source, and of the nodes that it looks at")
    parser.add_argument("--inputs", nargs="*", default=[], type=Path, help="manifests of the models")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with one_line_errors(), disk_errors(args.out):
        made = made_of(args.code, args.inputs)
        graph, results = checked(Graph.of(json.loads(args.config))), args.out.parents[2]
        compared = check(graph, args.paper, args.seed, results)
        longest, notes = check_rows(results, rows(graph, args.paper, args.seed))
        for note in notes:
            print(note, flush=True)
        write_json(args.out, {MADE_OF: made, "compared": compared, "rows": longest, "notes": notes})


if __name__ == "__main__":
    main()
