"""Papers run in one process, without Snakemake: imports are paid once. `cut` leaves the fewest steps that exercise each plug.

python -m tests.pipeline.inprocess workflow/papers/vopd.yaml --results /tmp/try --seed 0 [--cut] [--only opd]
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from opd_steps.config.load import load_root
from opd_steps.config.needs import terms
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph, GraphNode
from opd_steps.store.artifacts import Job, read_manifest

FEW = {"steps": 3, "prompts": 4, "batch": 8, "checkpoint_every": 2, "limit": 12, "minibatches": 1}
TOKENS = 8  # of a top-k, at most: towns have few
ROWS = {"train": 200, "test": 16, "ood": 8, "digits": 6}
TOWN = {"nodes": 5, "chords": 5, "starts": 5, "way_points": 0, "held_out": 0.4, "train": 8, "test": 4, "ood": 4}
"""A source `walk` of which a model that learned nothing gets some right: every node is next to every other."""
INNER = TOWN | {"chords": 1}
"""The same within another source, which may want a step that is no edge; with the way points that it has."""
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "head_dim": 8,
    "initializer_range": 0.05,  # with larger weights no sample is right by chance: no reward, no pass rate above 0
}


def cut(graph: Graph) -> Graph:
    """The graph with as little work as shows that every node runs; its models learn nothing."""
    texts = [node.parents[role] for node in graph.nodes.values() for role in {"answers", "texts"} & node.parents.keys()]
    for node in graph.nodes.values():
        options = node.options
        options.update(
            {key: min(options[key] or value, value) for key, value in FEW.items() if isinstance(options.get(key), int)}
        )
        if any(node is other for other in texts):
            options["limit"] = 0  # samples of all prompts
        if options.get("select", {}).get("name") == "by_pass_rate":
            options["select"]["low"] = 0.0  # of few samples by such a model perhaps none is right
        for reads in (options.get("select", {}), options.get("analysis", {})):
            if "reliable" in reads:
                reads["reliable"] = 0.0  # as little is right of a teacher that learned nothing
        if options.get("keep") == "correct" and node.parents["data"].options["source"]["name"] == "reversed_twice":
            options["keep"] = "all"  # no text of so many digits is right by chance
        if isinstance(options.get("keep"), dict):
            options["keep"] = dict.fromkeys(options["keep"], 1)
        if "sampling" in options:
            options["sampling"]["max_new_tokens"] = min(options["sampling"]["max_new_tokens"], 16)
            options["sampling"]["n"] = min(options["sampling"]["n"], 4)
        if node.kind == "data":
            for depth, source in enumerate(sources(options["source"])):
                few = (INNER if depth else TOWN) if source["name"] == "walk" else ROWS | {"keep": 4, "graphs": 1}
                few = few | {"way_points": min(source.get("way_points", 0), 2)} if depth else few
                source |= {key: value for key, value in few.items() if key in source}
        if node.kind == "model" and options["config"]:
            options["config"] = options["config"] | {k: v for k, v in SMALL.items() if k in options["config"]}
        if node.kind == "opd":  # of those models, which have one layer
            for row in terms(options["method"]):
                row["estimator"].update({"layers": [1], "student_layers": []} if "layers" in row["estimator"] else {})
                row["support"].update({"k": min(row["support"]["k"], TOKENS)} if "k" in row["support"] else {})
        if node.kind == "score":
            options["topk"] = min(options["topk"], TOKENS)
        if node.kind in ("evaluate", "analyze"):
            options |= {"k": min(options.get("k", 2), 2), "max_new_tokens": 16}
    return graph


def sources(source: dict) -> Iterator[dict]:
    """A source and those within it."""
    yield source
    for value in source.values():
        if isinstance(value, dict) and "name" in value:
            yield from sources(value)


def run_node(node: GraphNode, results: Path, seed: int) -> dict:
    """Run one node's step unless its result is there; returns its manifest."""
    out = results / node.path(seed) / "manifest.json"
    if not out.exists():
        module = importlib.import_module(f"opd_steps.steps.{node.kind}")
        step = getattr(module, "run", None) or getattr(module, node.kind)
        config, named = json.loads(node.job_config(node.seed(seed))), node.says.sources(node.options)
        with Job(config, node.code, out, named) as job:
            step(job)
    return read_manifest(out.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paper")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--cut", action="store_true")
    parser.add_argument("--skip", nargs="*", default=[], help="stage kinds")
    args = parser.parse_args()
    root = load_root(OmegaConf.to_container(OmegaConf.load("config.yaml")) | {"papers": [args.paper], "scale": args.scale})
    graph = checked(Graph.of(root))
    for seed in args.seed:
        for node in wanted(cut(graph) if args.cut else graph):
            if node.kind in args.skip:
                continue
            started = time.process_time()
            metrics = run_node(node, args.results, seed)["metrics"]
            shown = {k: round(v, 4) for k, v in metrics.items() if ":" not in k and not k.endswith("stderr")}
            print(
                f"== seed {seed} {node.kind} {node.paper}/{node.name}: {time.process_time() - started:.1f} CPU s {shown}",
                flush=True,
            )


if __name__ == "__main__":
    main()
