"""What MLflow shows of one result or one paper: tags, params, metrics, files. Pure: nothing here talks to a store."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

from opd_steps.findings.results import WEIGHTS, Result, produces
from opd_steps.findings.variants import flatten
from opd_steps.report.curves import gaps, standalone
from opd_steps.store.artifacts import MANIFEST
from opd_steps.store.files import write_json
from opd_steps.store.fingerprint import digest

MAX_PARAM, MAX_TAG, MAX_TABLE = 6000, 5000, 2**20
AXES = ("teacher", "signal", "rollouts", "slot")
Point = tuple[str, float, int]  # name, value, step


def name(text: str) -> str:
    """A metric or param name that MLflow accepts: letters, digits and _-./: and spaces."""
    return re.sub(r"[^\w\-./: ]", "_", text.replace("@", "_at_")).strip("/. ") or "_"


def result_tags(result: Result, axes: dict[str, str], scale: str) -> dict[str, str]:
    """Tags that never change for one content of one result; `opd.node` and `opd.content` find its run again."""
    m = result.manifest
    run = f"{result.variant} seed{m['seed']}"
    tags = {
        "mlflow.runName": f"{m['kind']} {run}" if produces(m["kind"]) == "evaluation" else run,  # named as its model
        "opd.node": result.path,
        "opd.paper": m["paper"],
        "opd.stage": m["kind"],
        "opd.variant": result.variant,
        "opd.seed": str(m["seed"]),
        "opd.scale": scale,
        "opd.fingerprint": m["fingerprint"],
        "opd.content": digest([m["fingerprint"], m["files"], repr(sorted(m["metrics"].items()))]),
        "opd.parents": json.dumps({role: parent["content"] for role, parent in m["parents"].items()})[:MAX_TAG],
        "opd.code": digest(m["code"])[:12],
        **axis_tags(axes),
        **source_tags(f"opd_steps/steps/{m['kind']}.py"),
        **commit_tags(m["git_commit"]),
    }
    lacking = {
        key: said for key in sorted({k for row in result.curves for k in row} - {"step"}) if (said := gaps(key, result.curves))
    }
    if lacking:
        tags["opd.gaps"] = "; ".join(f"{key}: {said}" for key, said in lacking.items())[:MAX_TAG]
    if produces(m["kind"]) == "evaluation":
        tags["mlflow.runType"] = "evaluation"  # MLflow opens the parents of such runs
    if result.weights_sha256:
        own = result.weights_folder
        path = str(own.resolve()) if own else m["config"]["options"].get("path") or ""
        tags |= {"model.path": path, "model.sha256": result.weights_sha256}
    return tags


def axis_tags(axes: dict[str, str]) -> dict[str, str]:
    return {f"opd.axis.{axis}": axes[axis] for axis in AXES if axes.get(axis)}


def source_tags(file: str) -> dict[str, str]:
    """MLflow's column *Source*: the file that made it."""
    return {"mlflow.source.name": file, "mlflow.source.type": "LOCAL"}


def commit_tags(commit: str) -> dict[str, str]:
    """The commit as MLflow links it, and whether the checkout differed from it."""
    if not commit:
        return {}
    return {"mlflow.source.git.commit": commit.rstrip("+"), "opd.uncommitted": str(commit.endswith("+")).lower()}


def sweep_tags(node: dict) -> dict[str, str]:
    """The family that a variant, or the evaluation of one, belongs to."""
    return {"opd.family": node["family"]} if node["family"] else {}


def sweep_params(node: dict) -> dict[str, str]:
    """`grid.<option>` of a variant and of its evaluation, so that figures and what was moved are in one run (parallel coordinates)."""
    return {name(f"grid.{option}"): flatten(value, "value").get("value", str(value)) for option, value in node["point"].items()}


def result_params(result: Result) -> dict[str, str]:
    """The options that the result was made with, and its parents without their seeds, so that seeds compare as equal."""
    config = result.manifest["config"]
    flat = {role: _node(path) for role, path in config["parents"].items()} | flatten(config["options"])  # `self` stays itself
    return {name(key): value[:MAX_PARAM] for key, value in flat.items() if key}


def _node(path: str) -> str:
    """paper/kind/node, and the part that is read, of a path with its seed."""
    folder, colon, part = path.partition(":")
    return f"{Path(folder).parent}{colon}{part}"


def result_points(result: Result) -> list[Point]:
    """Curves, then final figures. A figure named like a curve is that curve's tail, the mean of its last fifth."""
    curves = [(key, row[key], row["step"]) for row in result.curves for key in sorted(row) if key != "step"]
    drawn = {key for key, _, _ in curves}
    final = [(f"{key}:tail" if key in drawn else key, value, 0) for key, value in sorted(result.manifest["metrics"].items())]
    return [(name(key), float(value), step) for key, value, step in curves + final if value is not None]


def write_result_files(result: Result, folder: Path) -> None:
    """Manifest, resolved config, curves with their plot, small JSON tables, pictures and films; weights stay where they are."""
    shutil.copy(result.folder / MANIFEST, folder)
    write_json(folder / "config.json", result.manifest["config"])
    if result.curves:
        shutil.copy(result.folder / "metrics.jsonl", folder)
        (folder / "curves.svg").write_text(standalone(result.curves, result.path))
    files = result.manifest["files"]
    models = {Path(file).parent for file in files if file.endswith(WEIGHTS)}
    for table, entry in files.items():
        if table.endswith((".json", ".png", ".html")) and entry["bytes"] <= MAX_TABLE and Path(table).parent not in models:
            (folder / table).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(result.folder / table, folder / table)


def claim_tags(claims: list[dict]) -> dict[str, str]:
    """`opd.claim.<id>`: the verdict; `opd.why.<id>`: its reason, with the figure of a precondition that is not met;
    `opd.checkpoints.<id>`: what the checkpoints of how many seeds are, on these prompts."""
    found = {"opd.claims": counted(claims)} if claims else {}
    for claim in claims:
        key = name(claim["id"])
        found |= {f"opd.claim.{key}": claim["direction"]["verdict"], f"opd.why.{key}": claim["direction"]["reason"][:MAX_TAG]}
        counts = (claim["these_checkpoints"] or {"counts": {}})["counts"]
        found[f"opd.checkpoints.{key}"] = (
            ", ".join(f"{verdict}: {n}" for verdict, n in counts.items()) or "no verdict over prompts"
        )
    return found


def claim_metrics(claims: list[dict]) -> dict[str, float]:
    """effect, low, high, p and p_adjusted of every claim that was measured, named `claim/<id>/<figure>`."""
    found: dict[str, float | None] = {}
    for claim in claims:
        judged, base = claim["direction"], f"claim/{claim['id']}"
        low, high = judged["interval"] or (None, None)
        found |= {f"{base}/effect": judged["effect"], f"{base}/low": low, f"{base}/high": high, f"{base}/p": judged["p"]}
        found[f"{base}/p_adjusted"] = claim["p_adjusted"]
    return {name(key): value for key, value in found.items() if value is not None}


def counted(claims: list[dict]) -> str:
    """How the claims came out, "2 holds, 1 not measured"."""
    counts = Counter(claim["direction"]["verdict"] for claim in claims)
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def paper_note(paper: dict, claims: list[dict], links: dict[str, str]) -> str:
    """What stands at the top of a paper's run: its source, how its claims came out, and where its variants are compared (Markdown)."""
    lines = [
        paper["title"] + (f" ([arXiv {paper['arxiv']}](https://arxiv.org/abs/{paper['arxiv']}))" if paper["arxiv"] else "")
    ]
    lines += ["Claims: " + counted(claims)] if claims else []
    lines += [f"[{says}]({link})" for says, link in links.items()]
    return "\n\n".join(lines)[:MAX_TAG]


def write_paper_files(paper: dict, claims: list[dict], folder: Path) -> None:
    """The resolved plan of a paper, and its claims as JSON and as a table."""
    write_json(folder / "plan.json", paper)
    write_json(folder / "claims.json", claims)
    figures = ("verdict", "reason", "effect", "interval", "n", "p")
    header = (
        "id",
        "says",
        "left",
        "op",
        "right",
        "margin",
        "test",
        "reported",
        "same_contract",
        "differs",
        "p_adjusted",
        "survives",
    )
    with (folder / "claims.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header + figures)
        writer.writerows([claim[key] for key in header] + [claim["direction"][key] for key in figures] for claim in claims)


def ended(result: Result) -> float:
    """Seconds since 1970, 0 where it was not recorded."""
    return result.timing.get("started", 0) + result.timing.get("wall_s", 0)


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
