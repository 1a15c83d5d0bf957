"""Preflight as a job: what a paper compares must fit, before any training."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from opd_steps.artifacts import write_json
from opd_steps.errors import one_line_errors
from opd_steps.graph import Graph
from opd_steps.preflight import check
from opd_steps.preflight_rows import rows
from opd_steps.tasks.room import check_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="canonical JSON of config.yaml")
    parser.add_argument("--paper", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with one_line_errors():
        graph, results = Graph.of(json.loads(args.config)), args.out.parents[2]
        compared = check(graph, args.paper, args.seed, results)
        longest, notes = check_rows(results, rows(graph, args.paper, args.seed))
        for note in notes:
            print(note, flush=True)
        write_json(args.out, {"compared": compared, "rows": longest, "notes": notes})


if __name__ == "__main__":
    main()
