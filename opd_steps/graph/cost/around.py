"""What stands around a flow in memory: its pipeline's text encoders and VAE, what sees for it, the judges of its images."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from opd_steps.config.teachers import named
from opd_steps.graph.cost.known import folder_of, of_path, published

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

PARTS = ("text_encoder", "text_encoder_2", "text_encoder_3", "vae")
JUDGES = {"yuvalkirstain/PickScore_v1": 986_109_441, "openai/clip-vit-large-patch14": 427_616_513}  # parameters, in fp32
ALIKE, JUDGED = {True: 2, False: 4}, 4  # bytes of each: on a GPU or without one; of a judge


def around(node: GraphNode, roles: tuple[str, ...], judged: bool) -> dict[str, float] | str:
    """Bytes by part, whole on each process, each pipeline once; in words, why nobody knows. A judge that nobody knows is left out."""
    found, size = dict.fromkeys(("encoders and VAE", "eyes", "judges"), 0.0), ALIKE[node.options["resources"]["gpu"] > 0]
    linked = {}
    for options in (node.maker_of(role).options for role in roles):
        if options["path"]:
            linked[options["path"], options["revision"], options["family"].get("eyes", "")] = options["family"]["name"]
    for (path, revision, eyes), family in linked.items():
        parts = _parts(path, revision, family)
        if not parts:
            return f"how large the encoders of {path} are is not known here"
        found["encoders and VAE"] += size * parts
        if eyes and shows(node):
            sees = of_path(eyes, family="vl")
            if isinstance(sees, str):
                return sees
            found["eyes"] += size * sees.parameters
    judges = task(node).get("judges", {}).values() if judged else ()
    found["judges"] = sum(JUDGED * JUDGES.get(path, 0) for path in set(judges))
    return {name: many for name, many in found.items() if many}


def shows(node: GraphNode) -> bool:
    """Whether anybody is shown an image beside the prompt: all, by the data, or a teacher."""
    return pictured(node) or any(t.context["name"] == "pictured" for t in _teachings(node))


def pictured(node: GraphNode) -> bool:
    return bool(task(node).get("pictured"))


def task(node: GraphNode) -> dict:
    """Of the data that its prompts are of."""
    data = node.parents.get("data")
    while data is not None and data.says.PRODUCES != "data":
        data = data.parents.get("data")
    return data.origin.options.get("task", {}) if data else {}


def _teachings(node: GraphNode) -> list:
    return list(named(node.options, node.parents).values()) if node.kind == "opd" else []


def _parts(path: str, revision: str | None, family: str) -> int:
    """Parameters of what is loaded beside the transformer."""
    if folder := folder_of(path, revision, family):
        return sum(_numbers(folder / part) for part in PARTS)
    return sum(published().get(path, {}).get("around", {}).values())


def _numbers(folder: Path) -> int:
    """Of the weights in a folder, by the headers of its safetensors files."""
    found = 0
    for file in folder.glob("*.safetensors"):
        if file.stem.count("."):  # the same in another dtype
            continue
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
        found += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return found
