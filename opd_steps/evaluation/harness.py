"""lm-eval through its Python API: all tasks of a model in one process, and results without clocks, paths and missing values."""

from __future__ import annotations

import difflib
import os
from collections.abc import Container
from importlib.metadata import version

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from transformers import set_seed

from opd_steps.errors import NotFinite, UserError
from opd_steps.store.metrics import not_finite
from opd_steps.store.sources import here

_SEED_BITS = 0x7FFFFFFF


def load_tasks(
    configs: list[dict], benchmarks: list[str], fewshot: int | None, seed: int, data: dict[str, str] | None = None
) -> dict:
    """lm-eval's task dict of inline tasks and built-in tasks by name; `data`: of a built-in task, what stands in for its data set.

    The built-in ones are indexed only when asked for (16 s). Raises UserError for a name that lm-eval does not know, and for
    one whose data or requirements cannot be had.
    """
    manager = TaskManager(include_defaults=bool(benchmarks))
    loaded: dict = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in benchmarks:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, 1)
            hint = f"did you mean '{near[0]}'?" if near else "`lm-eval ls tasks` lists them"
            raise UserError("evaluate.benchmarks", f"lm-eval has no task '{name}'; {hint}")
    for spec in [*configs, *dict.fromkeys(benchmarks)]:
        try:
            moved = isinstance(spec, str) and spec in (data or {})
            part = manager.load([_elsewhere(manager, spec, data[spec]) if moved else spec])
        except Exception as error:
            if isinstance(spec, dict) or isinstance(error, UserError):
                raise
            raise UserError("evaluate.benchmarks", f"cannot load '{spec}': {type(error).__name__}: {error}") from None
        for key in loaded:
            loaded[key] |= part.get(key, {})
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False) and not _may_run_code():
            raise UserError("evaluate.benchmarks", f"'{name}' runs the model's code; HF_ALLOW_CODE_EVAL=1 allows it")
        default = task.get_config("num_fewshot")
        if default != 0:  # a task that fixes 0 shots keeps them
            task.set_config(key="num_fewshot", value=fewshot if fewshot is not None else default or 0)
        task.set_fewshot_seed(seed=seed & _SEED_BITS)
    return loaded


def _elsewhere(manager: TaskManager, task: str, path: str) -> dict:
    """A built-in task's config with its data read from a folder of <split>.jsonl, or from another hub id."""
    config = load_yaml(manager.task_index[task].yaml_path, resolve_func=True)
    if (folder := here(path)) is None:
        return config | {"dataset_path": path}
    files = {file.stem: str(file) for file in sorted(folder.glob("*.jsonl"))}
    if not files:
        raise UserError(path, "expected a folder with <split>.jsonl files")
    return config | {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}


def evaluate(lm: LM, tasks: dict, limit: int, chat: bool, system: str | None, seed: int) -> dict:
    """`lm_eval.evaluate` with analytic standard errors over prompts; `simple_evaluate` would add 2 s of machine description."""
    set_seed(seed & _SEED_BITS)  # for built-in tasks that sample
    return lm_eval.evaluate(
        lm,
        tasks,
        limit=limit or None,
        bootstrap_iters=100,  # only for metrics that are no means
        log_samples=False,
        apply_chat_template=chat,
        fewshot_as_multiturn=True,
        system_instruction=system if chat else None,
        confirm_run_unsafe_code=_may_run_code(),
    )


def _may_run_code() -> bool:
    return os.environ.get("HF_ALLOW_CODE_EVAL") == "1"


def clean(results: dict) -> dict:
    """{"lm_eval": version, "results": {task: {"metric,filter": float}}, ...}; names and "N/A", lm-eval's word for undefined, dropped.

    Raises NotFinite for a figure that is nan or infinite.
    """
    tables = {
        task: {key: float(value) for key, value in sorted(row.items()) if "," in key and _is_number(value)}
        for task, row in results["results"].items()
    }
    for task, row in tables.items():
        if bad := not_finite(row):
            raise NotFinite(f"task {task}", bad)
    kept = {name: results.get(name, {}) for name in ("versions", "n-shot", "n-samples")}
    return {"lm_eval": version("lm-eval"), "results": tables, **kept}


def _is_number(value: object) -> bool:
    try:
        return not isinstance(value, str) and isinstance(float(value), float)
    except (TypeError, ValueError):
        return False


def flat_metrics(tables: dict[str, dict[str, float]]) -> dict[str, float]:
    """`task/metric`, or `task/metric/filter` of a task with filters; `test@8` counts as `test`, `pass@1` is `pass_at_1`."""
    flat = {}
    for task, row in tables.items():
        for key, value in row.items():
            metric, _, name = key.replace("@", "_at_").partition(",")
            flat["/".join([task.partition("@")[0], metric, *([name] if name != "none" else [])])] = value
    return flat


def directions(results: dict, own: Container[str]) -> dict[str, str]:
    """ "up" (more is better) or "down" of each metric of a built-in task, as flat_metrics names it and as the task itself says."""
    found = {}
    for task, row in results["results"].items():
        more = results.get("higher_is_better", {}).get(task, {}) if task not in own else {}
        found[task] = {key: more[name] for key in row if more.get(name := key.partition(",")[0]) is not None}
    return {name: "up" if better else "down" for name, better in flat_metrics(found).items()}
