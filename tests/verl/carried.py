"""What the trainer verl carries of all papers, and why not the rest: `python -m tests.verl.carried`. A table of docs/scale.md."""

from __future__ import annotations

import copy
import re
from collections import Counter, defaultdict
from pathlib import Path

from omegaconf import OmegaConf

from opd_steps.config.load import load_root, self_contained
from opd_steps.graph.checked import checked
from opd_steps.graph.checks.trainers import uncarried
from opd_steps.graph.nodes import Graph, GraphNode

ROOT = Path(__file__).parents[2]
TRAINER = {"name": "verl", "nodes": 1, "gpus_per_node": 2, "teacher_nodes": 1, "address": "", "set": []}


def reasons(node: GraphNode) -> set[str]:
    """Why verl does not carry a node as it stands, but for trainer and engines, which are written for it: vLLM samples, and teachers are in
    its training workers."""
    node.options = copy.deepcopy(node.options) | {"trainer": TRAINER}
    node.options["engine"]["name"] = "vllm"
    return {short(why) for _, why in uncarried(node)}


def short(why: str) -> str:
    """A reason without the names in it."""
    why = re.sub(r"^(\w+) \w+: ", r"\1: ", why)
    why = re.sub(r"^of \w+ ", "of a teacher ", re.sub(r"^\w+ looks", "a plug looks", why))
    return re.sub(
        r"asked, not.*",
        "asked",
        re.sub(r": expected.*|^\d+ (?=rows)|each of \d+ ", "", why),
    )


def main() -> None:
    config = OmegaConf.to_container(OmegaConf.load(ROOT / "config.yaml"))
    graph = checked(Graph.of(load_root(config | {"papers": self_contained()})))
    found = {node.key: reasons(node) for node in graph.nodes.values() if node.kind in ("opd", "rl")}
    for kind in ("opd", "rl"):
        mine = [why for key, why in found.items() if key[1] == kind]
        print(f"{kind}: {sum(not why for why in mine)} of {len(mine)} nodes are carried")
    count, alone = Counter(why for whys in found.values() for why in whys), defaultdict(int)
    for whys in found.values():
        if len(whys) == 1:
            alone[next(iter(whys))] += 1
    for why, n in count.most_common():
        print(f"| {why} | {n} | {alone[why]} |")


if __name__ == "__main__":
    main()
