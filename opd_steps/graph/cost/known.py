"""The shape of the model that a node reads, without a download: from its own config, a config.json on this machine, or shapes.yaml."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from opd_steps.graph.cost.eyes import telling
from opd_steps.graph.cost.flow import Flow
from opd_steps.graph.cost.sd3 import sd3_of
from opd_steps.graph.cost.shape import Shape, denoising, seeing, shape_of
from opd_steps.graph.cost.z_image import z_image_of
from opd_steps.store.sources import here

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

SHAPES = Path(__file__).with_name("shapes.yaml")
FAMILIES = {
    "causal_lm": shape_of,
    "text_critic": shape_of,
    "vl": seeing,
    "masked_lm": denoising,
    "openvla": telling,
    "sd3": sd3_of,
    "z_image": z_image_of,
}  # of whose models the size may be known
FLOWS = ("sd3", "z_image")  # whose config is a part's of a pipeline
OWN_VOCAB = 512  # of a tokenizer that is made of a data set's characters, of which the node says no number; more than each has


def shape(node: GraphNode, role: str) -> Shape | Flow | str:
    """Of the model that a node reads in this role; in words, why nobody knows."""
    root = node.maker_of(role)
    found = _own(root)
    return found.by(root.options["family"], bool(root.options["path"])) if isinstance(found, Flow) else found


def _own(root: GraphNode) -> Shape | Flow | str:
    options = root.options
    if root.kind != "model":
        return f"the size of a {root.kind} is not known here"
    if (family := options["family"]["name"]) not in FAMILIES:
        return f"the size of a {family} model is not known here"
    if not options["path"]:
        own = {"model_type": options["architecture"]} if FAMILIES[family] is shape_of else {}
        return FAMILIES[family](own | options["config"], _vocab(options["tokenizer"]))
    return of_path(options["path"], options["revision"], family)


def of_path(path: str, revision: str | None = None, family: str = "causal_lm") -> Shape | Flow | str:
    """Of a checkpoint's folder, or of a hub id; of a model of text that is part of a larger one its own."""
    folder, name = folder_of(path, revision, family), config_of(family)
    config = _read(folder / name) if folder else published().get(path)
    if config is None:
        return f"{path} has no {name}" if folder else f"{path} is neither on this machine nor in {SHAPES.name}"
    return FAMILIES[family]((FAMILIES[family] is shape_of and config.get("text_config")) or config)


def seen(node: GraphNode, role: str, shape: Shape) -> int:
    """Tokens of what a model of this role is shown beside the text of a row, at most."""
    return shape.tower.seen(node.maker_of(role).options["family"]) if shape.tower else 0


@cache
def published() -> dict[str, dict]:
    """Hub id -> fields of its config."""
    return yaml.safe_load(SHAPES.read_text())


def _vocab(tokenizer: str) -> int:
    """Of a fresh model whose config does not say: its tokenizer's."""
    found = of_path(tokenizer) if "/" in tokenizer else OWN_VOCAB
    return found if isinstance(found, int) else 0 if isinstance(found, str) else found.vocab


def config_of(family: str) -> str:
    return "transformer/config.json" if family in FLOWS else "config.json"


def folder_of(path: str, revision: str | None, family: str) -> Path | None:
    """Where a checkpoint lies on this machine: its own folder, or the hub's cache, if that holds its config."""
    if folder := here(path):
        return folder
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    snapshots = cache / f"models--{path.replace('/', '--')}" / "snapshots"
    found = [snapshots / revision] if revision else sorted(snapshots.glob("*"))
    return next((folder for folder in found if _read(folder / config_of(family)) is not None), None)


def _read(file: Path) -> dict | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
