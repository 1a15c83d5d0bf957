"""What the graph costs before any step works: dry runs, a run with nothing to do, and a step's start-up.

    python -m tests.bench.dag
    python -m tests.bench.dag --finished .      # nothing to do in this checkout, where the quickstart has run

CPU seconds, user and system, of a process and its children: medians of three runs, after one that is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import yaml

from opd_steps.process import warm
from opd_steps.store.artifacts import git_commit
from tests.bench.measuring import chip
from tests.pipeline.checkout import Checkout

REPEATS = 3
PAPERS, SEEDS = 4, 5
JOBS = 2  # that each variant and seed adds: training and evaluation
METHODS = ({}, {"signal": "jsd", "support": "full", "estimator": "exact"}, {"baseline": "neg_kl"}, {"transform": ["clip"]})
CUT = {"steps": 2, "limit": 24, "train": 400}
IMPORT = "import torch; from transformers import Qwen3ForCausalLM"


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of the processes that `work` starts."""
    work()
    taken = []
    for _ in range(REPEATS):
        begun = resource.getrusage(resource.RUSAGE_CHILDREN)
        work()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime)
    return statistics.median(taken)


def synthetic(folder: Path, jobs: int) -> tuple[str, ...]:
    """Papers of many variants on the quickstart's teacher and student; returns what puts them on Snakemake's command line."""
    names = [f"variant_{i}" for i in range(round(jobs / (PAPERS * SEEDS * JOBS)))]
    files = []
    for number in range(PAPERS):
        node = {"kind": "opd", "student": "student_sft", "teacher": "teacher", "data": "data"}
        paper = {
            "paper": {"title": f"Synthetic {number}"},
            "use": "quickstart",
            "nodes": {
                f"p{number}_{name}": node | {"optim": {"lr": 1e-6 * (i + 1)}, "method": METHODS[i % len(METHODS)]}
                for i, name in enumerate(names)
            },
            "claims": [
                {
                    "id": name,
                    "says": name,
                    "left": f"p{number}_{name}.test/avg_at_k",
                    "op": ">",
                    "right": "student_sft.test/avg_at_k",
                }
                for name in names
            ],
            "evaluate": {"models": [f"p{number}_{name}" for name in names], "options": {"data": "data", "splits": ["test"]}},
        }
        files.append(folder / f"synthetic_{number}.yaml")
        files[-1].write_text(json.dumps(paper))
    return "--config", f"papers=[{','.join(map(str, files))}]", f"seeds=[{','.join(map(str, range(SEEDS)))}]"


def finished(folder: Path) -> Checkout:
    """A checkout with the finished quickstart; its trainings are cut to a few steps, its graph is whole."""
    checkout = Checkout(folder)
    path = folder / "workflow/papers/quickstart.yaml"
    paper = yaml.safe_load(path.read_text())
    tiny = paper["scales"]["tiny"]
    for options in (paper["nodes"]["data"]["source"], *tiny["kinds"].values(), *tiny["nodes"].values()):
        options.update({key: value for key, value in CUT.items() if key in options})
    path.write_text(json.dumps(paper))
    checkout.snakemake("all", "--config", "papers=[quickstart]")
    return checkout


def nothing_to_do(checkout: Checkout) -> float:
    run = lambda: checkout.snakemake("all", "--config", "papers=[quickstart]").stdout
    assert "Nothing to be done" in checkout.snakemake("-n", "all", "--config", "papers=[quickstart]").stdout
    return cpu_seconds(run)


def python(*arguments: str) -> float:
    return cpu_seconds(lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL))


def forked(count: int = 5) -> float:
    """Mean over steps that a server forks: what the caller takes, and what it adds to the server's and its forks' time."""
    warm.start_server(["opd", "evaluate"])
    while not Path(os.environ[warm.ADDRESS]).exists():
        time.sleep(0.1)
    server = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1]
    ticks = lambda: sum(map(int, Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
    begun = ticks()
    callers = [python("-m", "opd_steps.process.warm", "opd", "--help") for _ in range(count)]
    runs = count * (REPEATS + 1)
    return statistics.mean(callers) + (ticks() - begun) / os.sysconf("SC_CLK_TCK") / runs


def show(what: str, seconds: float, more: str = "") -> None:
    print(f"{what:46}{seconds:7.2f}  {more}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--jobs", type=int, nargs="*", default=[1250, 2500, 5000, 10000], help="sizes of the synthetic dry runs"
    )
    parser.add_argument("--finished", type=Path, help="a checkout where the quickstart has run; without it one is made")
    args = parser.parse_args()
    commit = git_commit()
    print(f"{date.today()}, {chip()}, {len(os.sched_getaffinity(0))} cores, commit {commit[:12]}{commit[40:]}")
    print(f"{'':46}{'CPU s':>7}")
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder) / "checkout")
        show(
            "dry run of the quickstart", cpu_seconds(lambda: checkout.snakemake("-n", "all", "--config", "papers=[quickstart]"))
        )
        for jobs in args.jobs:
            arguments, texts = synthetic(Path(folder), jobs), []
            seconds = cpu_seconds(lambda: texts.append(checkout.snakemake("-n", "all", *arguments).stdout))  # noqa: B023
            count = int(re.search(r"^total +(\d+)", texts[-1], re.M)[1])
            show(f"dry run of {count} jobs", seconds, f"{1000 * seconds / count:.2f} ms a job")
        done = Checkout.__new__(Checkout) if args.finished else finished(Path(folder) / "finished")
        done.folder = args.finished or done.folder
        show("nothing to do in the finished quickstart", nothing_to_do(done))
    base = python("-c", IMPORT)
    show("import of torch and a model class", base)
    cold = python("-m", "opd_steps.steps.opd", "--help")
    show("start-up of a step, cold", cold, f"{cold / base:.2f} of that import")
    warm_one = forked()
    show("start-up of a step, forked", warm_one, f"{warm_one / base:.2f} of that import")


if __name__ == "__main__":
    main()
