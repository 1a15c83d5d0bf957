"""Run one node's job over and over, killing it with SIGKILL at random moments, until it is done. One import serves all tries.

    python -m tests.pipeline.killer --paper smoke --kind opd --node vopd --kills 5      (in a checkout with finished parents)

Prints {"kills": n, "resumed": m}: how many tries were killed, and how many of the tries went on from a checkpoint.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.store.artifacts import Job


def attempt(job: Job, module, log: Path) -> None:
    """The child: exactly what steps/_main.main does, output to a file."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1), os.dup2(handle, 2)
    try:
        with job:
            module.run(job)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


def wait_for_checkpoint(work: Path, child: int) -> None:
    """Until the job's folder holds a checkpoint, or the job has ended (it is left for the caller to reap)."""
    ended = lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    while not ended() and not list(work.glob("checkpoint-*[0-9]")):
        time.sleep(0.002)


def resumed(log: Path) -> int:
    return log.read_text().count("resuming after step")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("paper", "kind", "node"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tune", default="full")
    args = parser.parse_args()
    graph = checked(Graph([args.paper], "tiny", tune={"name": args.tune}))
    node = graph.nodes[args.paper, args.kind, args.node]
    out = Path("results") / node.path(0) / "manifest.json"
    module = importlib.import_module(f"opd_steps.steps.{args.kind}")
    importlib.import_module("transformers.models.qwen3.modeling_qwen3")
    dice, kills, duration, log = random.Random(args.seed), 0, None, Path("killer.log")
    while True:
        job = Job(json.loads(node.job_config(0)), node.code, out, node.says.sources(node.options))
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            attempt(job, module, log)
        if duration is None or (kills >= args.kills and (resumed(log) or kills >= 8 * args.kills)):
            _, status = os.waitpid(child, 0)
            assert status == 0, log.read_text()[-2000:]
            if duration is None:  # a first whole run tells how long it takes; then it starts anew
                duration = time.monotonic() - begun
                shutil.rmtree(out.parent)
                continue
            break
        if kills % 2:  # every other one behind a checkpoint: there is something to go on from
            wait_for_checkpoint(job.work, child)
            time.sleep(dice.uniform(0, duration * 0.1))
        else:
            time.sleep(dice.uniform(0.02, duration * 0.8))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if status == 0:  # it was faster: start anew
            shutil.rmtree(out.parent)
        else:
            kills += 1
    print(json.dumps({"kills": kills, "resumed": resumed(log)}))


if __name__ == "__main__":
    main()
