"""An opd or rl node whose trainer is verl: what verl is told, its run, and what is published of it. Runs in our own environment."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.models.bases import OF_PEFT
from opd_steps.models.ends import end_ids, stated_ends
from opd_steps.models.folder import load_tokenizer, weights_at, where
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.task import Pool
from opd_steps.process.lifetime import Family, StopFlag
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_json
from opd_steps.store.fingerprint import ROOT
from opd_steps.store.metrics import read_metrics, summarise
from opd_steps.verl.machines import Machines, machines
from opd_steps.verl.settings import STOP, STOPPED, Places, settings

PYTHON = "DISTILLERY_VERL_PYTHON"
GRACE = 600.0  # seconds in which verl may finish a step and save it


@dataclass(frozen=True)
class Course:
    """What a kind of node adds to its options.

    student   role of the model that it starts from
    method    checked options of a Method
    server    role of the teacher that verl asks by vLLM, "" = none; `topk`: how many of its likeliest tokens are asked for
    teachers  all whom the method asks, by name: what a training worker loads (verl.beside); None: the server
    contexts  checked plugs of what each of these sees, where that is not the student's prompt
    adapter   writes the adapter that is trained, as it is before the first step, into a folder; None: the model itself is
    rewards   what opd_steps.verl.outcomes makes advantages by
    picks     (pool, step) -> the prompts of the step
    """

    student: str
    method: dict
    rewards: dict
    picks: Callable[[Pool, int], list[int]]
    server: str = ""
    topk: int = 0
    teachers: Mapping[str, dict | None] = field(default_factory=dict)
    contexts: Mapping[str, dict] = field(default_factory=dict)
    adapter: Callable[[Path], None] | None = None


def python_of_verl() -> Path:
    """The Python of verl's environment: what PYTHON names, else that of `make verl`. Raises UserError where there is none."""
    named = os.environ.get(PYTHON)
    found = Path(named) if named else Path(sys.prefix) / "verl/bin/python"
    if not found.is_file():
        raise UserError(str(found), f"verl's environment is not there: make verl, or name its Python in {PYTHON}")
    return found


def train(job: Job, course: Course) -> tuple[Path, dict[str, float], dict]:
    """Run verl from wherever its checkpoints stand: (the trained model in the HF format, the summary of its curves, facts).

    Raises UserError with verl's own line when it fails. A stop that was asked for saves, and ends with its signal's status.
    """
    python, stop = python_of_verl(), StopFlag()
    for name in (STOP, "errors", "failed"):
        (job.work / name).unlink(missing_ok=True)
    modules = [*filter(None, os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",")), "opd_steps.verl.names"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "VERL_USE_EXTERNAL_MODULES": ",".join(modules)}
    with machines(job.options["trainer"]["address"], python) as ray:
        job_file = _write(job, course, ray)
        run = Family(
            [str(python), "-m", "opd_steps.verl.launch", str(job_file)], deaf=True, env=env | ray.environment, cwd=ROOT
        )
        end = float("inf")
        while run.alive() and ray.whole() and time.monotonic() < end:
            if stop.wanted and end == float("inf"):
                (job.work / STOP).touch()  # not a signal: Ray would end at once
                end = time.monotonic() + GRACE
            time.sleep(0.2)
        lost = run.alive() and not ray.whole()
        status = run.end(0.0)
    steps = read_metrics(job.work / "metrics.jsonl")
    if stop.wanted:
        saved = (
            f"after step {steps[-1]['step']}; its checkpoint is saved" if steps and status == STOPPED else "and did not save"
        )
        job.note(f"stopped by signal {stop.wanted} {saved}; run again to go on")
        raise SystemExit(128 + stop.wanted)
    if lost:
        raise UserError(job.name, "Ray ended on one of the job's machines: the log above, and Slurm's, say more")
    if status:
        said = job.work / "failed"
        raise UserError(
            job.name, f"verl ended with status {status}: {said.read_text() if said.exists() else 'its log is above'}"
        )
    model = job.work / "verl" / f"global_step_{job.options['steps']}" / "actor" / "huggingface"
    (job.stage / "verl.yaml").write_bytes((job.work / "verl.yaml").read_bytes())
    return model, summarise(steps), {"trainer": _versions(job)}


def fill(policy: Policy, folder: Path) -> None:
    """Give a loaded model, which may bear an adapter, the weights that verl saved. Raises UserError where they are not its own."""
    found: dict = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= {name.removeprefix(OF_PEFT): value for name, value in load_file(file).items()}
    missing, unknown = policy.model.load_state_dict(found, strict=False)
    tied = set(policy.model._tied_weights_keys or ()) if policy.model.config.tie_word_embeddings else set()
    if unknown or set(missing) - tied:
        raise UserError(str(folder), f"verl saved another model: {[*unknown, *missing][:3]}")


def _write(job: Job, course: Course, ray: Machines) -> Path:
    """What verl is told; the table of prompts in the order in which the steps ask for them."""
    options, student = job.options, job.path(course.student)
    options = options | {"trainer": options["trainer"] | {"address": ray.address}}
    tokenizer = load_tokenizer(student)
    task = job.manifests["data"]["facts"]["task"]
    pool = plugs.load("tasks/worlds", task).pool(job.path("data"), "train", SimpleNamespace(tokenizer=tokenizer))
    table = job.work / "prompts.parquet"
    longest = _prompts(pool, course, options["steps"], table)
    teacher = str(weights_at(job.path(course.server), job.work, options["dtype"])) if course.server else ""
    adapter = job.work / "adapter" if course.adapter else None
    if adapter:
        course.adapter(adapter)
    model = str(weights_at(student, job.work, options["weights"]))
    places = Places(model, teacher, str(table), longest, job.work, str(adapter or ""))
    ours = {
        "kind": job.kind,
        "method": course.method,
        "window": options["sampling"]["max_new_tokens"],
        "teachers": dict(course.teachers),
        "contexts": dict(course.contexts),
        "seed": job.seed,
        "rewards": course.rewards,
        "controllers": options.get("controllers", []),
        "minibatches": options["minibatches"],
        "rows": options["prompts"] * options["sampling"]["n"],
        "steps": options["steps"],
        "machines": ray.count,
        "optim": options["optim"],
        "ends": list(end_ids(tokenizer, stated_ends(where(student)))),
        "student": str(student),
        "data": str(job.path("data")),
        "task": task,
        "work": str(job.work),
    }
    file = job.work / "verl.json"
    write_json(file, {"keys": _plain(settings(options, places, course.topk)), "ours": ours})
    return file


def _prompts(pool: Pool, course: Course, steps: int, table: Path) -> int:
    """Write the prompts of all steps, rendered as ours; the length of the longest."""
    order = [i for step in range(1, steps + 1) for i in course.picks(pool, step)]
    ids = {i: context for i, context in zip(range(len(pool)), pool.contexts(range(len(pool))), strict=True)}
    rows = [
        {
            "prompt": [{"role": "user", "content": pool.name(i)}],  # verl wants one; what is read are the ids
            "data_source": "distillery",
            "agent_name": "distillery",
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": i, "prompt_ids": ids[i]},
        }
        for i in order
    ]
    pq.write_table(pa.Table.from_pylist(rows), table)
    return max(len(ids[i]) for i in set(order))


def _plain(keys: Mapping) -> dict:
    """As JSON can hold it, which knows no infinity."""
    return {key: "yaml:.inf" if value == float("inf") else value for key, value in keys.items()}


def _versions(job: Job) -> dict:
    told = json.loads((job.work / "versions.json").read_text())
    return {"name": "verl", "versions": told, "byte_reproducible": False}
