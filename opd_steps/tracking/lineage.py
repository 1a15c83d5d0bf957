"""What a result reads and makes, as MLflow shows it: data sets by digest, models by where their weights lie. Pure, as content.py."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from opd_steps.findings.results import WEIGHTS, Result, produces
from opd_steps.store.fingerprint import digest

DATA = ("data", "rollouts", "scores")  # what a kind produces that others read as rows
READERS = ("evaluation", "analysis")  # kinds that measure a model and make none
PART = "opd.part"
SHOWN = 12  # characters of a digest


@dataclass(frozen=True)
class Data:
    """One data set that a run reads; `context`: training, evaluation or analysis."""

    name: str
    digest: str
    source: str
    profile: str
    context: str


@dataclass(frozen=True)
class Model:
    """One model that a run makes: the node's own, or a part of it (a learner, a milestone); its weights stay where they are."""

    part: str
    name: str
    step: int
    params: dict[str, str]
    tags: dict[str, str]


def data_read(result: Result) -> list[Data]:
    """The data sets among its parents. The digest is the start of the parent's content: sha256 of its files and of what it is made from."""
    made = produces(result.manifest["kind"])
    context = made if made in READERS else "training"
    found = {}
    for parent in result.manifest["parents"].values():
        paper, kind, node = parent["path"].split("/")[:3]
        if produces(kind) in DATA:
            folder = Path(parent["path"].partition(":")[0])
            source = (result.root / folder).resolve().as_uri()
            profile = json.dumps({"content": parent["content"], "made by": str(folder)})
            one = Data(f"{paper}/{node}", parent["content"][:SHOWN], json.dumps({"uri": source}), profile, context)
            found[one.name, one.digest] = one
    return list(found.values())


def model_read(result: Result) -> tuple[str, str] | None:
    """(path of the result, part) of the model that an evaluation or analysis measures."""
    if produces(result.manifest["kind"]) not in READERS:
        return None
    path, _, part = result.manifest["config"]["parents"].get("model", "").partition(":")
    return (path, part) if path else None


def models_made(result: Result) -> list[Model]:
    """The node's own model first, then its parts."""
    m = result.manifest
    if produces(m["kind"]) != "model":
        return []
    options = m["config"]["options"]
    folders: dict[str, dict[Path, list[str]]] = {"": {}}
    for file, entry in sorted(m["files"].items()):
        if file.endswith(WEIGHTS):
            part = Path(file).parts[1] if file.startswith("parts/") else ""
            folders.setdefault(part, {}).setdefault(Path(file).parent, []).append(entry["sha256"])
    last = result.curves[-1]["step"] if result.curves else 0
    found = []
    for part, weights in folders.items():
        folder, hashes = next(iter(weights.items()), (None, []))
        where = str((result.folder / folder).resolve()) if folder else str(options.get("path") or "")
        sha256 = (hashes[0] if len(hashes) == 1 else digest(hashes)) if hashes else "" if part else result.weights_sha256
        name = " ".join([m["node"], *([part] if part else []), f"seed{m['seed']}"])
        tags = {"mlflow.model.isExternal": "true", "opd.node": result.path, PART: part, "opd.paper": m["paper"]}
        tags |= {"opd.variant": m["node"], "opd.seed": str(m["seed"]), "opd.stage": m["kind"]}
        step = (options.get("keep") or {}).get(part, last)
        found.append(Model(part, re.sub(r"[/:.%\"']", "_", name), step, {"path": where, "sha256": sha256}, tags))
    return found
