"""Between Snakemake and the graph: the functions behind rules/common.smk."""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, TextIO

from opd_steps.config.load import config_file, load_root, pathvars, require_place, results_folder
from opd_steps.errors import UserError
from opd_steps.graph import agreement, outline
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.checks.processes import processes as count_processes
from opd_steps.graph.cost.table import table as costs
from opd_steps.graph.currency import Currency
from opd_steps.graph.equal import unnamed
from opd_steps.graph.forecast import forecast
from opd_steps.graph.node import GraphNode
from opd_steps.graph.nodes import Graph
from opd_steps.graph.progress import Progress
from opd_steps.graph.status import status as of_results
from opd_steps.process import warm
from opd_steps.store import views
from opd_steps.store.artifacts import MANIFEST, sweep
from opd_steps.store.fingerprint import PACKAGE, canonical, code_hashes, digest
from opd_steps.store.lock import acquire

_root: dict = {}
_graph: Graph
_wanted: list[GraphNode] = []
_results: Path
_currency: Currency
_lock: TextIO  # held until the process ends
_progress: Progress | None = None  # of the jobs that run now
UNASKED_RATE = (100, 1.0)
"""Snakemake's default of --max-jobs-per-timespan. Each job that ends adds a timer that wakes the scheduler once a second for the rest of
the run: after 1,000 jobs the main process has 400 threads and takes half a core. A rate that a user asks for stays."""
WORTH_WARMING = 4  # jobs: for fewer, importing in advance saves nothing
RESULTS = "<results>"  # Snakemake's path variable
LOOKS = {"status", "plan"}  # the rules that only say what is there, and what it would take
TRACKING = "DISTILLERY_TRACKING"  # for the jobs: where a training may be seen while it runs (tracking/live.py)
NAMED = 8  # nodes in a line that says why some run again
REPORT_FILES = sorted(path for end in ("j2", "css", "js", "yaml") for path in Path("workflow/report").glob(f"*.{end}"))


def look_at_config() -> None:
    """Before Snakemake reads config.yaml: what is no YAML, not UTF-8, stands twice or makes Snakemake fail itself ends with one line."""
    try:
        pathvars(config_file()[0])
    except UserError as error:
        _end(error)


def start(workflow, config: dict) -> None:
    """Build the graph once per Snakemake process; a user's mistake ends it with one line and exit status 2."""
    global _root, _graph, _wanted, _results
    _spare_collections()
    try:
        _results = results_folder(config)
        _root = load_root({k: v for k, v in config.items() if k != "pathvars"})
        os.environ[TRACKING] = canonical(_root["tracking"])
        _graph = checked(Graph.of(_root))
        _wanted = wanted(_graph)
        if workflow.is_main_process:
            for folder in _folders():
                require_place(_results / folder)
            for line in unnamed(_graph):
                print(f"distillery: {line}", file=sys.stderr)
            _decide(_results)
        else:
            from opd_steps.graph.needrun import decide_by

            decide_by(None)
    except UserError as error:
        _end(error)


def _spare_collections() -> None:
    """Until the first job starts hardly anything is garbage, and at exit all goes at once: looking for it was a quarter of a large dry run."""
    gc.disable()
    atexit.register(gc.freeze)


def begin(workflow) -> None:
    """Just before the first job: one run at a time works in a results folder, and a run on Slurm asks for what Slurm has."""
    global _lock
    if all(job.rule.name in LOOKS for job in workflow.dag.needrun_jobs()):
        return  # it only looks, also while another run works
    gc.freeze()  # the jobs stay to the end: no collection looks at them
    gc.enable()
    try:
        if workflow.is_main_process:
            _lock = acquire(_results / ".run.lock", "another run works in this results folder")
            sweep(_results)
            for file in workflow.dag.forced_by_user():  # else the step would find that its result is there
                Path(file).unlink(missing_ok=True)
        if "slurm" in type(workflow.executor_settings).__module__:
            from opd_steps.slurm.start import start as start_slurm

            start_slurm(workflow)
        elif _worth_warming(workflow):
            warm.start_server(_modules())
    except UserError as error:
        _end(error)
    if workflow.is_main_process and not workflow.output_settings.quiet:
        _show_progress(workflow)
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == UNASKED_RATE:
        workflow.scheduler.job_rate_limiter = None


def _show_progress(workflow) -> None:
    """A line after each job, by Snakemake's own logger."""
    from snakemake.logging import logger

    global _progress
    due = Counter(job.rule.name for job in workflow.dag.needrun_jobs())
    _progress = Progress(_results, due, workflow.resource_settings.cores or 1)
    logger.addHandler(_progress)


def end() -> None:
    """After the last job: what failed, with the reason; and where what was made is looked at."""
    if _progress is not None:
        made = {"track", "report"} & set(_progress.took)
        _progress.close_with(views.addresses(_results / "report", _root["tracking"]["uri"]) if made else [])


def _modules() -> list[str]:
    """What the run's jobs import: their steps, and the plugs that their nodes name."""
    files = dict.fromkeys(file for node in _wanted for file in node.files)
    names = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files]
    return [*names, f"{PACKAGE.name}.steps.preflight"]


def _worth_warming(workflow) -> bool:
    """Several jobs that run here and in this environment."""
    here = workflow.local_exec and not workflow.deployment_settings.deployment_method
    return here and len(list(workflow.dag.needrun_jobs())) >= WORTH_WARMING


def _end(error: UserError) -> NoReturn:
    print(f"distillery: error: {error}", file=sys.stderr, flush=True)
    os._exit(2)  # SystemExit would be wrapped in Snakemake's own traceback, and end with status 1


def _decide(results: Path) -> None:
    """Which jobs run, though their output is there: those whose result or view is not what it would be now.

    Their reasons are told here by cause, and by Snakemake for each job. Models that are there are checked now, the rest by the rule preflight.
    """
    from opd_steps.graph.needrun import decide_by  # Snakemake is there only when it runs us

    global _currency
    currency = _currency = Currency(results)
    for node, seed in _jobs(_wanted):
        currency.judge(node, seed)
    for paper in {node.paper for node in _wanted}:
        for seed in _root["seeds"]:
            agreement.check(_graph, paper, seed, results, lambda path: currency.contents.get(path) is not None)
    for cause, names in currency.changed.items():
        names = list(dict.fromkeys(names))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        print(f"distillery: {cause}; to run again: {', '.join(names[:NAMED])}{more}", file=sys.stderr)
    missing = {path for path, content in currency.contents.items() if content is None}
    if line := forecast(results, _jobs(_wanted), missing):
        print(f"distillery: {line}", file=sys.stderr)
    found = {f"{results / path / MANIFEST}": why for path, why in currency.stale.items()}
    decide_by(found | _reasons_of_views(results))


def _folders() -> set[Path]:
    """Below results/, that jobs will write into: where a file stands there, the first of them would fail after the others' hours."""
    nodes = {Path(*part) for n in _wanted for part in (n.key, (n.paper, "preflight"))}
    return nodes | {Path(".work"), Path("report/manifests")}


def _reasons_of_views(results: Path) -> dict[str, str]:
    """The same for what is made of results. What reads something that is made again is made again in any case."""
    report, whys = results / "report", {}
    lists = [report / "manifests" / f"{paper}.json" for paper in _owners()]
    index, claims = report / "mlflow.json", report / "claims.json"
    try:
        whys[report / "plan.json"] = views.why(report / "plan.json", digest(outline.make(_graph, _root)), [])
        for paper, file in zip(_owners(), lists, strict=True):
            whys[file] = views.why(file, "", [results / path / MANIFEST for path in _paths(paper)])
        inputs = [report / "plan.json", *lists]
        whys[index] = views.why(index, step_code("track"), inputs) or views.lost_runs(_root["tracking"]["uri"], index)
        whys[claims] = views.why(claims, step_code("report"), [*inputs, *REPORT_FILES]) or views.other_pages(claims)
    except FileNotFoundError:
        pass  # something that they are made of is missing, so they are made again
    for paper in {node.paper for node in _wanted}:
        for seed in _root["seeds"]:
            out = results / paper / "preflight" / f"seed{seed}.json"
            models = [results / path / MANIFEST for path in agreement.models(_graph, paper, seed)]
            if all(model.is_file() for model in models):
                whys[out] = views.why(out, preflight_code(SimpleNamespace(paper=paper, seed=str(seed))), models)
    return {str(out): why for out, why in whys.items() if why}


def _jobs(nodes: Iterable[GraphNode]) -> list[tuple[GraphNode, int]]:
    """Each (node, seed) once; a pinned node stands there once however many seeds run."""
    return list({node.path(s): (node, s) for node in nodes for s in _root["seeds"]}.values())


def status() -> str:
    """What is there of the wanted nodes."""
    return of_results(_currency, _jobs(_wanted))


def plan() -> str:
    """What the wanted nodes need of memory and time."""
    return costs(_results, _wanted)


def papers() -> str:
    """Regular expression of the known papers, for wildcard constraints. (One of all nodes would be read again for every job.)"""
    return "|".join(sorted({re.escape(node.paper) for node in _graph.nodes.values()}))


def manifests(phase: str = "") -> list[str]:
    """Manifests of all wanted nodes of one phase, of all nodes for ""."""
    return [f"{RESULTS}/{n.path(s)}/{MANIFEST}" for n, s in _jobs(_wanted) if phase in ("", n.says.PHASE)]


def manifests_of(wildcards) -> list[str]:
    """Manifests of all wanted nodes that one paper owns."""
    return [f"{RESULTS}/{path}/{MANIFEST}" for path in _paths(wildcards.paper)]


def gathered() -> list[str]:
    """What rule gather writes, for every paper that owns wanted nodes."""
    return [f"{RESULTS}/report/manifests/{paper}.json" for paper in _owners()]


def _owners() -> list[str]:
    return list(dict.fromkeys(node.paper for node in _wanted))


def _paths(paper: str) -> list[str]:
    """Folders below results/ of all wanted nodes that a paper owns."""
    return [n.path(s) for n, s in _jobs(n for n in _wanted if n.paper == paper)]


def node_of(kind: str, wildcards) -> GraphNode:
    """The node that a job's wildcards name."""
    key = wildcards.paper, kind, wildcards.node
    if key not in _graph.nodes:
        _end(UserError("/".join(key), "the chosen papers have no such node"))
    return _graph.nodes[key]


def parents(kind: str, wildcards) -> dict[str, str]:
    """Manifests that the job reads, by role; Snakemake's names have no dots."""
    node = node_of(kind, wildcards)
    return {role.replace(".", "__"): f"{RESULTS}/{p.path(int(wildcards.seed))}/{MANIFEST}" for role, p in node.parents.items()}


def job_config(kind: str, wildcards) -> str:
    return node_of(kind, wildcards).job_config(int(wildcards.seed))


def job_code(kind: str, wildcards) -> str:
    return node_of(kind, wildcards).code_json


def ask(kind: str, resource: str) -> int | Callable[..., int]:
    """What a job of this kind asks of the executor: a number where all nodes agree, as Snakemake calls a function again for every job."""
    return _same(kind, lambda node: node.options["resources"][resource])


def processes(kind: str) -> int | Callable[..., int]:
    """How many processes a step of this kind is."""
    return _same(kind, count_processes)


def _same(kind: str, asked: Callable[[GraphNode], int]) -> int | Callable[..., int]:
    found = {asked(node) for node in _graph.nodes.values() if node.kind == kind}
    return found.pop() if len(found) == 1 else lambda wildcards: asked(node_of(kind, wildcards))


@cache
def step_code(step: str) -> str:
    """Source hashes of a step that belongs to no node."""
    return digest(code_hashes(PACKAGE / "steps" / f"{step}.py"))


def preflight_code(wildcards) -> str:
    """Digest of what a paper's preflight is made of beside its models: its source, and what its nodes ask of them."""
    seed = int(wildcards.seed)
    asked = agreement.asked(_graph, wildcards.paper, seed)
    return digest([step_code("preflight"), asked])


def preflight_models(wildcards) -> list[str]:
    """Manifests of the models that a paper's preflight looks at."""
    return [f"{RESULTS}/{path}/{MANIFEST}" for path in agreement.models(_graph, wildcards.paper, int(wildcards.seed))]


def root_config() -> str:
    """The checked config.yaml as canonical JSON."""
    return canonical(_root)
