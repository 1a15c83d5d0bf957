"""opd and rl nodes that verl trains, as their steps run them: whole verl, with Ray, on a CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from opd_steps.errors import UserError
from opd_steps.models.folder import load_model
from opd_steps.process.launch import free_port
from opd_steps.process.lifetime import Family
from opd_steps.verl.machines import own_address
from tests.pipeline.stages import Stages
from tests.verl import ENVIRONMENT
from tests.verl.conftest import ROOT
from tests.vllm.conftest import FRESH, sums

PARENTS = {"student": "model/student", "teacher": "model/teacher", "data": "data/data"}
TRAINER = {"name": "verl", "gpus_per_node": 2}
TRAINER["set"] = ["trainer.device=cpu", "actor_rollout_ref.rollout.free_cache_engine=false", "ray_kwargs.ray_init.num_gpus=4"]
TRAINER["set"] += ["ray_kwargs.ray_init.num_cpus=16", "ray_kwargs.ray_init.include_dashboard=false"]
ENGINE = {"name": "vllm", "tensor_parallel": 2}  # one server for both ranks
STEPS = 3
RAYLET = "ray/raylet/raylet"
SMALL = {"steps": STEPS, "prompts": 4, "sampling": {"n": 2, "max_new_tokens": 6}, "checkpoint_every": 2, "optim": {"lr": 3e-3}}
SMALL |= {"trainer": TRAINER, "engine": ENGINE}
TOPK = {"signal": "rkl", "support": {"name": "teacher_topk", "k": 4, "norm": "tail"}, "estimator": "exact"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory, verl) -> Stages:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        found = Stages(tmp_path_factory.mktemp("verl") / "results")
        sums(found, train=200, test=20, ood=5)
        for name, spread in (("student", 0.2), ("teacher", 0.3)):
            found.run(name, "model", {"data": "data/data"}, config=FRESH | {"initializer_range": spread})
        yield found


def curves(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_an_opd_node(stages):
    manifest = stages.run("opd", "opd", PARENTS, method=TOPK, teacher_engine=ENGINE, **SMALL)
    folder = stages.results / "p/opd/opd/seed0"
    rows = curves(folder)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(row["train/sampler_gap_max"] < 1e-4 and row["train/divergence"] > 0 for row in rows)
    assert manifest["facts"]["trainer"]["name"] == "verl" and not manifest["facts"]["trainer"]["byte_reproducible"]
    assert {"model/model.safetensors", "metrics.jsonl", "verl.yaml"} <= manifest["files"].keys()
    trained, start = load_model(folder), load_model(stages.results / "p/model/student/seed0")
    moved = [(a - b).abs().max() for a, b in zip(trained.parameters(), start.parameters(), strict=True)]
    assert all(0 < gap < 3 * STEPS * 3e-3 for gap in moved)
    assert manifest["metrics"]["teacher/sequences"] == 8 * STEPS


EVERYTHING = {
    "method": {"support": "full", "signal": "jsd", "estimator": "exact", "weight": [{"name": "tip"}]},
    "controllers": [{"name": "linear", "sets": "method.coef", "first": 1.0, "last": 0.25}],
    "teacher_source": {"name": "ema", "rate": 0.25},
    "minibatches": 2,
}


def test_a_node_that_is_killed_and_told_to_stop_goes_on(stages, capfd):
    """Its teacher is a moving average in the training workers, asked for everything; every update surveys its rows; a controller moves."""
    again = lambda: stages.run("all", "opd", PARENTS, **(SMALL | EVERYTHING | {"steps": 5, "checkpoint_every": 1}))
    for step, killed, said in ((1, "opd_steps.verl.launch", "-9: "), (2, RAYLET, r"\d+: \w+Error: ")):
        with (
            pytest.raises(UserError, match=f"verl ended with status {said}"),
            after(stages.results, step, partial(kill, killed)),
        ):
            again()
    with pytest.raises(SystemExit) as stopped, after(stages.results, 3, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        again()
    before = curves(next((stages.results / ".work").glob("*/verl")).parent)
    assert stopped.value.code == 128 + signal.SIGTERM and "its checkpoint is saved" in capfd.readouterr().err
    manifest = again()
    rows = curves(stages.results / "p/opd/all/seed0")
    assert rows[: len(before)] == before and [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["train/coef"] for row in rows] == pytest.approx([1.0, 0.85, 0.7, 0.55, 0.4])
    assert manifest["metrics"]["teacher/sequences"] == 8 * 5
    until = time.monotonic() + 60  # Ray's own processes see one by one that nobody is left
    while working() and time.monotonic() < until:
        time.sleep(0.5)
    assert not working()


def test_two_raylets(stages, verl):
    """A Ray that runs already, of two machines with a GPU each as it sees them: a rank and a server on each, the teacher in both ranks.

    What trains is an adapter; servers are given whole weights, which verl rounds to bf16.
    """
    with raylets(*verl) as address:
        trainer = TRAINER | {
            "nodes": 2,
            "gpus_per_node": 1,
            "address": address,
            "set": [s for s in TRAINER["set"] if "num_" not in s],
        }
        options = SMALL | {"trainer": trainer, "engine": ENGINE | {"tensor_parallel": 1}, "steps": 2}
        method = {"support": "full", "signal": "rkl", "estimator": "exact"}
        manifest = stages.run("wide", "opd", PARENTS, method=method, tune={"name": "lora", "r": 4}, **options)
    assert manifest["metrics"]["teacher/sequences"] == 8 * 2
    folder = stages.results / "p/opd/wide/seed0"
    assert all(row["train/sampler_gap_max"] < 0.05 for row in curves(folder))
    assert {"adapter/adapter_model.safetensors", "base.json"} <= manifest["files"].keys() and not (folder / "model").exists()
    trained, start = load_model(folder), load_model(stages.results / "p/model/student/seed0")
    gaps = [(a - b).abs().max() for a, b in zip(trained.parameters(), start.parameters(), strict=True)]
    assert max(gaps) > 0 and gaps[0] == 0  # the embedding stays


@contextmanager
def raylets(python: Path, env: dict[str, str]) -> Iterator[str]:
    """A Ray of two raylets; its address."""
    address = f"{own_address()}:{free_port('')}"
    start = [str(python), "-m", "ray.scripts.scripts", "start", "--num-cpus=8", "--num-gpus=1", "--block"]
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false"]
    asks = [str(python), "-c", "import ray, sys; ray.init(sys.argv[1]); print(len(ray.nodes()))", address]
    env = env | {"RAY_AUTH_MODE": "disabled"}  # else `ray start` makes a token, which whoever joins must name
    with ExitStack() as started:
        for count, more in enumerate((head, [f"--address={address}"])):
            started.callback(Family([*start, *more], env=env).end, 20.0)
            for _ in range(20):
                found = subprocess.run(asks, env=env, capture_output=True, text=True)
                if str(count + 1) in found.stdout.split():
                    break
                time.sleep(1)
            else:
                raise RuntimeError(f"Ray on {address}: {found.stderr[-500:]}")
        yield address


@contextmanager
def after(results: Path, step: int, then):
    """Meanwhile do something as soon as the node at work has saved that step."""
    over = threading.Event()

    def watch():
        while not over.wait(0.05):
            if list((results / ".work").glob(f"*/verl/global_step_{step}/actor/huggingface/*.safetensors")):
                then()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def kill(pattern: str) -> None:
    for pid in running(pattern):
        os.kill(int(pid), signal.SIGKILL)


def working() -> list[str]:
    return running(f"^ray::|{RAYLET}")


def running(pattern: str) -> list[str]:
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout.split()


def test_an_rl_node(stages):
    stages.run("rl", "rl", {"policy": "model/student", "data": "data/data"}, **SMALL)
    rows = curves(stages.results / "p/rl/rl/seed0")
    assert len(rows) == STEPS and all(0 <= row["train/reward"] <= 1 for row in rows)
    assert all(abs(row["train/ratio"] - 1) < 1e-4 for row in rows)  # rows of the weights that are trained
