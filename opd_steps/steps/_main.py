"""The command line that every step shares: `python -m opd_steps.steps.<kind> --config JSON --code JSON --out manifest.json`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from opd_steps.config.teachers import engines
from opd_steps.errors import UserError, disk_errors, one_line_errors
from opd_steps.graph.checks.processes import refused
from opd_steps.graph.kinds import KINDS
from opd_steps.process import devices
from opd_steps.process.heap import keep_freed_memory
from opd_steps.process.launch import failing_together, world_size
from opd_steps.slurm.requeue import requeue_this_job
from opd_steps.store.artifacts import Job
from opd_steps.store.fingerprint import ROOT, source_hash
from opd_steps.tracking.live import live

LOCK_WAIT = 600.0  # seconds; a job that a cluster started twice waits this long for the other before it is refused


def main(step: Callable[[Job], None]) -> None:
    """Parse the command line, lock the work directory, run `step(job)`; user errors end with one line and status 2."""
    parser = argparse.ArgumentParser(description=step.__doc__)
    parser.add_argument("--config", required=True, help="canonical JSON of the node (rules/common.smk)")
    parser.add_argument("--code", default="{}", help="JSON of the source hashes that the node depends on")
    parser.add_argument("--out", required=True, type=Path, help="the manifest to write")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()
    config = json.loads(args.config)
    says = KINDS[config["kind"]]
    print(_where(), flush=True)
    with one_line_errors(), failing_together(), disk_errors(args.out.parent):
        if problem := refused(says, config["options"], world_size()):
            raise UserError("resources.processes", problem)
        devices.take(engines(config["options"]), world_size() if says.TRAINS else 0)
        ranks = importlib.import_module("opd_steps.process.ranks") if world_size() > 1 else None  # torch is not every step's
        if ranks:
            ranks.join()
        try:
            code, named = _now(json.loads(args.code)), says.sources(config["options"])
            with Job(config, code, args.out, named, LOCK_WAIT, not ranks or ranks.first()) as job:
                done = job.writes and job.done()
                _run(step, job, ranks.gather(done)[0] if ranks else done)  # the others wait here for the first one's lock
        except SystemExit:  # stopped, all ranks at the same step
            if ranks:
                ranks.leave()
            raise
        if ranks:
            ranks.leave()


def _now(planned: dict[str, str]) -> dict[str, str]:
    """The source hashes as they are when the step starts: somebody may have edited a file since the run was planned, hours ago."""
    return {file: source_hash(ROOT / file) if (ROOT / file).is_file() else "" for file in planned}


def _run(step: Callable[[Job], None], job: Job, done: bool) -> None:
    if done:
        print("this result is there already, of this config, code and inputs; kept as it is", flush=True)
        if job.writes:
            job.clear()
    else:
        try:
            with live(job) if KINDS[job.kind].TRAINS else nullcontext():
                step(job)
        except SystemExit as stop:
            if stop.code == 128 + signal.SIGTERM and job.writes and (said := requeue_this_job()):
                job.note(said)
            raise


def _where() -> str:
    """Host, Slurm job and GPUs, for whoever reads the log."""
    names = {"SLURMD_NODENAME": "Slurm node", "SLURM_JOB_ID": "Slurm job", "CUDA_VISIBLE_DEVICES": "CUDA_VISIBLE_DEVICES"}
    return ", ".join(
        [f"host {socket.gethostname()}", *(f"{text} {os.environ[k]}" for k, text in names.items() if k in os.environ)]
    )
