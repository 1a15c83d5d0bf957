"""A training step as two processes, from its command line: the files of one process, a stop that both obey, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.pipeline.checkout import ROOT
from tests.pipeline.stages import Stages, save_checkpoint

SUMS = {"source": {"name": "arithmetic", "train": 60, "test": 8, "ood": 0}, "verifier": {"name": "exact", "after": "="}}
PARENTS = {"student": "model/m", "data": "data/data"}
OPTIONS = {"steps": 40, "batch": 5, "micro_batch": 2, "checkpoint_every": 2, "optim": {"lr": 1e-4, "eps": 1e-4}}
ENV = {k: v for k, v in os.environ.items() if k != "DISTILLERY_WARM"} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Stages:
    base = tmp_path_factory.mktemp("parallel")
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stages = Stages(base / "results")
    stages.run("data", "data", **SUMS)
    stages.run("m", "model", path=str(save_checkpoint(base / "checkpoint", vocab_size=300)))
    stages.run("one", "sft", PARENTS, **OPTIONS)
    for number, handler in kept.items():
        signal.signal(number, handler)
    return stages


def command(stages: Stages, name: str, *python: str, **changes) -> tuple[list[str], Path]:
    """(command line, folder) of an SFT step."""
    config, out = stages.job(name, "sft", PARENTS, **OPTIONS | changes)
    return [sys.executable, "-m", *python, "--config", json.dumps(config), "--out", str(out)], out.parent


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"}


def test_the_files_of_one_process_a_stop_and_a_resume(stages):
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "opd_steps.steps.sft")
    unbroken, folder = command(stages, "torchrun", *torchrun)
    whole = subprocess.Popen(unbroken, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    launched, stopped = command(stages, "stopped", "opd_steps.process.warm", "sft", "--processes", "2")
    first = subprocess.Popen(launched, cwd=ROOT, env=ENV, stderr=subprocess.PIPE, text=True)
    work = stages.results / ".work"
    while not (found := list(work.glob("p.sft.stopped*/checkpoint-*[0-9]"))) and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM, errors
    assert found and errors.count("its checkpoint is saved") == 1 == errors.count("\n"), errors
    assert not (stopped / "manifest.json").exists()
    again = subprocess.run(launched, cwd=ROOT, env=ENV, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.count("resuming after step") == 1, again.stderr

    said, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    assert files(stopped) == files(folder)
    assert list(work.iterdir()) == []
    one = files(stages.results / "p/sft/one/seed0")
    assert [n for n in one if files(folder).get(n) != one[n]] == ["metrics.jsonl", "model/model.safetensors"]
    weights, expected = (load_file(f / "model/model.safetensors") for f in (folder, stages.results / "p/sft/one/seed0"))
    for name, value in expected.items():
        assert (weights[name] - value).norm() < 1e-5 * value.norm(), name
