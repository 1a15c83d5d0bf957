"""What a job costs on Slurm and on the local executor: many jobs that do nothing, on a cluster on loopback.

    python -m tests.bench.slurm_jobs --count 200 --jobs 8

Prints wall seconds per job of both runs, and of a Slurm job the seconds until it starts, that it takes, and until its end is noticed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.slurm.loopslurm import LoopSlurm
from tests.slurm.run import SlurmCheckout

TINY = Path(__file__).parents[1] / "slurm/tiny.smk"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=8, help="in the queue at once")
    args = parser.parse_args()
    with LoopSlurm() as cluster, tempfile.TemporaryDirectory() as folder:
        checkout = SlurmCheckout(Path(folder) / "checkout", cluster)
        shutil.copy(TINY, checkout.folder / "workflow")
        tiny = ("all", "--snakefile", "workflow/tiny.smk", "--config", f"count={args.count}")
        begun = time.monotonic()
        text = checkout.run(*tiny, "--jobs", str(args.jobs), "--slurm-init-seconds-before-status-checks", "5").end(seconds=7200)
        wall = time.monotonic() - begun
        states = [job["state"] for job in cluster.jobs()]
        assert states == ["COMPLETED"] * args.count  # Slurm keeps them for an hour here
        assert len(list((checkout.folder / "tiny").iterdir())) == args.count
        found = {"jobs": args.count, "at once": args.jobs, "slurm: wall s per job": round(wall / args.count, 2)} | times(
            cluster, text
        )
        shutil.rmtree(checkout.folder / "tiny")
        begun = time.monotonic()
        checkout.snakemake(*tiny, "papers=[]")
        found["local, 2 cores: wall s per job"] = round((time.monotonic() - begun) / args.count, 2)
    print(json.dumps(found, indent=1))


def times(cluster: LoopSlurm, text: str) -> dict[str, float]:
    """Medians over the jobs, from Slurm's records and Snakemake's output."""
    rows = [row.split("|") for row in cluster.run("squeue", "-h", "-t", "all", "-o", "%i|%V|%S|%e").splitlines()]
    when = {job: [datetime.fromisoformat(t).timestamp() for t in rest] for job, *rest in rows}
    slurm_id = dict(re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", text))
    noticed = {}
    for clock, job in re.findall(r"\[(.+)\]\nFinished jobid: (\d+) \(Rule: tiny\)", text):
        noticed[slurm_id[job]] = datetime.strptime(clock, "%a %b %d %H:%M:%S %Y").timestamp()
    median = lambda values: round(statistics.median(values), 1)
    return {
        "slurm: s until it starts": median(t[1] - t[0] for t in when.values()),
        "slurm: s that it takes": median(t[2] - t[1] for t in when.values()),
        "slurm: s until its end is noticed": median(noticed[job] - t[2] for job, t in when.items()),
    }


if __name__ == "__main__":
    main()
