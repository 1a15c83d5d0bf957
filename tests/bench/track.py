"""What it costs to bring the results of a run into an empty store of MLflow.

    python -m tests.bench.track results                # into sqlite
    python -m tests.bench.track results --postgres     # into a PostgreSQL that is started for this

CPU seconds of the import and of the database's processes; the making of the tables stands apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import psutil

from opd_steps.findings.results import Plan
from opd_steps.store.artifacts import git_commit
from opd_steps.tracking import store
from opd_steps.tracking.importer import import_results
from tests.bench.measuring import chip
from tests.postgres.servers import Postgres


@contextmanager
def database(folder: Path, postgres: bool) -> Iterator[str]:
    if not postgres:
        yield f"sqlite:///{folder}/mlflow.db"
        return
    with Postgres() as server:
        yield server.uri


def cpu_seconds() -> float:
    """Of this process, and of a database's that still run."""
    of = [psutil.Process(), *(one for one in psutil.process_iter(["name"]) if one.info["name"] == "postgres")]
    return sum(
        times.user + times.system + times.children_user + times.children_system for times in (one.cpu_times() for one in of)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="of a run that has ended")
    parser.add_argument("--plan", type=Path, help="default: report/plan.json in it")
    parser.add_argument("--postgres", action="store_true")
    args = parser.parse_args()
    plan = Plan.read(args.plan or args.results / "report" / "plan.json", args.results)
    with tempfile.TemporaryDirectory() as folder, database(Path(folder), args.postgres) as uri:
        plan.root["tracking"] = {"uri": uri, "experiment": "bench"}
        plan.results = args.results
        start = cpu_seconds(), time.monotonic()
        with store.connect(uri, "bench", Path(folder) / "files"):
            made = cpu_seconds(), time.monotonic()
        runs = import_results(plan)["runs"]
        ended = cpu_seconds(), time.monotonic()
    points = sum(len(row) - 1 for path in plan.everything() for row in plan.result(path).curves)
    print(f"{date.today()}, {git_commit()}, {chip()}: {len(runs)} runs, {points:,} points of curves into {uri.split(':')[0]}")
    for what, (cpu, wall), (cpu_before, wall_before) in (("tables", made, start), ("import", ended, made)):
        print(f"{what}: {cpu - cpu_before:.1f} CPU s, {wall - wall_before:.1f} s of wall")


if __name__ == "__main__":
    main()
