"""Between Snakemake and the graph: the functions behind rules/common.smk."""

from __future__ import annotations

import atexit
import gc
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NoReturn, TextIO

from opd_steps import plan, preflight, warm
from opd_steps.artifacts import MANIFEST, damage
from opd_steps.config.checks import local_paths
from opd_steps.config.load import config_file, load_root, results_folder
from opd_steps.config.process_checks import processes as count_processes
from opd_steps.errors import UserError
from opd_steps.fingerprint import PACKAGE, canonical, code_hashes, digest
from opd_steps.graph import Graph, GraphNode
from opd_steps.lock import acquire

_root: dict = {}
_graph: Graph
_wanted: list[GraphNode] = []
_results: Path
_lock: TextIO  # held until the process ends
UNASKED_RATE = (100, 1.0)
"""Snakemake's default of --max-jobs-per-timespan. Each job that ends adds a timer that wakes the scheduler once a second for the rest of
the run: after 1,000 jobs the main process has 400 threads and takes half a core. A rate that a user asks for stays."""
WORTH_WARMING = 4  # jobs: for fewer, importing in advance saves nothing
RESULTS = "<results>"  # Snakemake's path variable


def look_at_config() -> None:
    """Before Snakemake reads config.yaml: what is no YAML, not UTF-8 or stands twice ends with one line."""
    try:
        config_file()
    except UserError as error:
        _end(error)


def start(workflow, config: dict) -> None:
    """Build the graph once per Snakemake process; a user's mistake ends it with one line and exit status 2."""
    global _root, _graph, _wanted, _results
    _spare_collections()
    try:
        _results = results_folder(config)
        _root = load_root({k: v for k, v in config.items() if k != "pathvars"})
        _graph = Graph.of(_root)
        _wanted = _graph.wanted()
        for paper in {node.paper for node in _wanted} if workflow.is_main_process else ():
            for seed in _root["seeds"]:  # what is there already is checked at once, the rest by the rule preflight
                preflight.check(_graph, paper, seed, _results, partly=True)
    except UserError as error:
        _end(error)
    if workflow.is_main_process:
        _look_at_results(_results)


def _spare_collections() -> None:
    """Until the first job starts hardly anything is garbage, and at exit all goes at once: looking for it was a quarter of a large dry run."""
    gc.disable()
    atexit.register(gc.freeze)


def begin(workflow) -> None:
    """Just before the first job: one run at a time works in a results folder, and a run on Slurm asks for what Slurm has."""
    global _lock
    gc.freeze()  # the jobs stay to the end: no collection looks at them
    gc.enable()
    try:
        if workflow.execution_settings.lock:
            _lock = acquire(_results / ".run.lock", "another run works in this results folder")
        if "slurm" in type(workflow.executor_settings).__module__:
            from opd_steps.slurm.start import start as start_slurm

            start_slurm(workflow)
        elif _worth_warming(workflow):
            warm.start_server()
    except UserError as error:
        workflow.persistence.unlock()
        _end(error)
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == UNASKED_RATE:
        workflow.scheduler.job_rate_limiter = None


def _worth_warming(workflow) -> bool:
    """Several jobs that run here and in this environment."""
    here = workflow.local_exec and not workflow.deployment_settings.deployment_method
    return here and len(list(workflow.dag.needrun_jobs())) >= WORTH_WARMING


def _end(error: UserError) -> NoReturn:
    print(f"distillery: error: {error}", file=sys.stderr, flush=True)
    os._exit(2)  # SystemExit would be wrapped in Snakemake's own traceback, and end with status 1


def _look_at_results(results: Path) -> None:
    """Say which sources changed since a result was made; set the manifest of a damaged result aside, so that its job runs again."""
    changed: dict[str, set[str]] = {}
    for node, seed in _jobs(_wanted):
        folder = results / node.path(seed)
        if not (folder / MANIFEST).is_file():
            continue
        found, code = _inspect(folder)
        if found and _inspect(folder)[0]:  # twice: a job may just have replaced the folder
            os.replace(folder / MANIFEST, folder / "manifest.damaged.json")
            print(f"distillery: {found}; its job runs again", file=sys.stderr)
            continue
        for file in code.keys() | node.code.keys():
            if code.get(file) != node.code.get(file):
                changed.setdefault(file, set()).add(f"{node.kind}/{node.name}")
    for file, names in sorted(changed.items()):
        print(f"distillery: {file} changed since {', '.join(sorted(names))} ran", file=sys.stderr)


def _inspect(folder: Path) -> tuple[str | None, dict[str, str]]:
    """(what is damaged, source hashes of the result)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return damage(folder, manifest), manifest["code"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        return f"{folder / MANIFEST} is not a manifest", {}


def _jobs(nodes: Iterable[GraphNode]) -> list[tuple[GraphNode, int]]:
    """Each (node, seed) once; a pinned node stands there once however many seeds run."""
    return list({node.path(s): (node, s) for node in nodes for s in _root["seeds"]}.values())


def papers() -> str:
    """Regular expression of the known papers, for wildcard constraints. (One of all nodes would be read again for every job.)"""
    return "|".join(sorted({re.escape(node.paper) for node in _graph.nodes.values()}))


def manifests(*kinds: str) -> list[str]:
    """Manifests of all wanted nodes of these kinds, or of all kinds."""
    return [f"{RESULTS}/{n.path(s)}/{MANIFEST}" for n, s in _jobs(_wanted) if not kinds or n.kind in kinds]


def manifests_of(wildcards) -> list[str]:
    """Manifests of all wanted nodes that one paper owns."""
    return [f"{RESULTS}/{n.path(s)}/{MANIFEST}" for n, s in _jobs(n for n in _wanted if n.paper == wildcards.paper)]


def gathered() -> list[str]:
    """What rule gather writes, for every paper that owns wanted nodes."""
    return [f"{RESULTS}/report/manifests/{paper}.json" for paper in dict.fromkeys(node.paper for node in _wanted)]


def node_of(kind: str, wildcards) -> GraphNode:
    """The node that a job's wildcards name."""
    key = wildcards.paper, kind, wildcards.node
    if key not in _graph.nodes:
        _end(UserError("/".join(key), "the chosen papers have no such node"))
    return _graph.nodes[key]


def parents(kind: str, wildcards) -> dict[str, str]:
    """Manifests that the job reads, by role."""
    node = node_of(kind, wildcards)
    return {role: f"{RESULTS}/{p.path(int(wildcards.seed))}/{MANIFEST}" for role, p in node.parents.items()}


def local_files(kind: str, wildcards) -> list[str]:
    """Files of local data, checkpoints and tokenizers that the node names by path: their content is an input like any other."""
    return [file for path in local_paths(node_of(kind, wildcards)).values() for file in _files(Path(path).expanduser())]


def _files(path: Path) -> list[str]:
    """A file, or all visible files of a folder; none of what does not exist: a hub id."""
    if not path.exists():
        return []
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [str(p) for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]


def job_config(kind: str, wildcards) -> str:
    return node_of(kind, wildcards).job_config(int(wildcards.seed))


def job_code(kind: str, wildcards) -> str:
    return node_of(kind, wildcards).code_json


def ask(kind: str, resource: str) -> int | Callable[..., int]:
    """What a job of this kind asks of the executor: a number where all nodes agree, as Snakemake calls a function again for every job."""
    asked = {node.options["resources"][resource] for node in _graph.nodes.values() if node.kind == kind}
    if len(asked) == 1:
        return asked.pop()
    return lambda wildcards: node_of(kind, wildcards).options["resources"][resource]


def processes(kind: str, wildcards) -> int:
    return count_processes(kind, node_of(kind, wildcards).options)


@cache
def step_code(step: str) -> str:
    """Source hashes of a step that belongs to no node."""
    return digest(code_hashes(PACKAGE / "steps" / f"{step}.py"))


def preflight_models(wildcards) -> list[str]:
    """Manifests of the models that a paper's preflight looks at."""
    return [f"{RESULTS}/{path}/{MANIFEST}" for path in preflight.models(_graph, wildcards.paper, int(wildcards.seed))]


def root_config() -> str:
    """The checked config.yaml as canonical JSON."""
    return canonical(_root)


def plan_digest() -> str:
    """Changes when anything that tracking and report show of the papers changes."""
    return digest(plan.make(_graph, _root))


def tracking_config() -> str:
    return canonical(_root["tracking"])
