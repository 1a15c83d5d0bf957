"""Addresses within MLflow's pages that open on something: runs held against each other, and views with their charts in order. Pure.

A view is what MLflow's own *Share* button keeps: an experiment tag, named in an address by `viewStateShareKey`.
"""

from __future__ import annotations

import json
from urllib.parse import quote

VIEW = "mlflow.sharedViewState."  # and the name of the view
MODELS, CURVES, CHARTS = "Compare the evaluated models", "Compare the variants' curves", "Charts of both"
PAPERS = "papers"  # the view of all papers' own runs
SECTIONS = ("test", "ood", "own", "train", "claim")  # of charts: what a model can do, what it says, how it learned
FIRST = ("test/accuracy", "test/avg_at_k", "test/pass_at_k", "ood/accuracy", "own/entropy", "own/length")
CURVE = ("train/reward", "train/loss", "train/divergence", "train/entropy", "train/length", "train/grad_norm")
MOST_CHARTS = 30
TRAINING_PAGE = "workflowType=machine_learning"  # else MLflow opens on its page for traces


def of_paper(paper: str, compared: dict[str, list[str]], experiment: str) -> dict[str, str]:
    """What a link says -> address, of runs worth holding against each other."""
    found = {says: compare(runs, experiment) for says, runs in compared.items()}
    return found | ({CHARTS: view(paper, experiment, charts=True)} if found else {})


def compare(runs: list[str], experiment: str) -> str:
    """The page that holds runs against each other, within the page that is open."""
    return f"#/compare-runs?runs={_json(runs)}&experiments={_json([experiment])}&{TRAINING_PAGE}"


def view(name: str, experiment: str, charts: bool = False) -> str:
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={quote(name, safe='')}&{TRAINING_PAGE}{mode}"


def papers_view() -> dict:
    """The papers' own runs, each with its title and how its claims came out."""
    columns = ["tags.`opd.title`", "tags.`opd.claims`", "attributes.`Source`", "attributes.`Version`"]
    return {"searchFilter": "tags.`opd.stage` = 'paper'", "orderByKey": "tags.`mlflow.runName`", "orderByAsc": True} | {
        "selectedColumns": columns
    }


def paper_view(runs: list[str], claims: list[dict]) -> dict:
    """These runs, and of charts first what the paper's claims are about, then accuracy, then what is said of learning."""
    terms = [term for claim in claims for side in ("left", "right") for term in claim[side].get("terms", [])]
    claimed = [term["metric"] for term in terms if not term["metric"].startswith("train/")]
    metrics = list(dict.fromkeys([*claimed, *FIRST, *CURVE]))
    prefixes = dict.fromkeys(metric.rpartition("/")[0] for metric in metrics)
    order = [name for name in SECTIONS if name in prefixes]
    order[-1:-1] = [name for name in prefixes if name not in SECTIONS and name]  # before the curves
    charts = [_chart(metric, len(runs)) for metric in metrics if "/" in metric][:MOST_CHARTS]
    measured = [metric for metric in metrics if metric.partition("/")[0] in SECTIONS][:8]
    columns = ["attributes.`Dataset`", "attributes.`Models`", *(f"metrics.`{metric}`" for metric in measured)]
    ids = ", ".join(f"'{run}'" for run in runs)
    return {
        "searchFilter": f"attributes.run_id IN ({ids})",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [{"uuid": name, "name": name, "display": True, "isReordered": True} for name in order],
        "isAccordionReordered": True,
    }


def _chart(metric: str, runs: int) -> dict:
    section, _, name = metric.rpartition("/")
    shown = {"uuid": metric, "metricKey": metric, "metricSectionId": section, "displayName": name, "deleted": False}
    if section != "train":
        return shown | {"type": "BAR", "isGenerated": True, "runsCountToCompare": runs}
    axes = {"xAxisKey": "step", "yAxisKey": "metric", "xAxisScaleType": "linear", "scaleType": "linear", "range": {}}
    line = {"lineSmoothness": 0, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True, "yAxisExpressions": []}
    return shown | {"type": "LINE", "isGenerated": True, "runsCountToCompare": runs} | axes | line


def _json(value: list[str]) -> str:
    return quote(json.dumps(value, separators=(",", ":")), safe="")
