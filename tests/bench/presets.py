"""Presets of scale paper on one layer of their models' real width, heads and vocabulary, with tokenizers of the real size: two steps each.

    python -m tests.bench.presets                    all of them, one after the other
    python -m tests.bench.presets vopd opsd          some
    python -m tests.bench.presets mopd --only opd    nodes of some kinds, with what they read

Random weights, in bf16; adapters in place of trainings of all weights, whose moments would be four times the model. Models of 4,096 and wider
share embedding and head, and the inner width of 32B is halved: with all of it, 8B beside 32B want over 8 GB. Evaluations and analyses are
left out. Printed: CPU seconds and the peak of memory of each node.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

from opd_steps.graph.checked import wanted
from opd_steps.graph.node import GraphNode
from tests.pipeline.inprocess import run_node
from tests.pipeline.presets import lay_out
from tests.unit.test_papers import CASES

SKIPPED = ("evaluate", "analyze", "merge")


def run(paper: str, only: list[str]) -> None:
    """All nodes of one preset, each in a process of its own: the memory of one goes with it."""
    with tempfile.TemporaryDirectory(prefix="presets-") as folder:
        graph = lay_out(paper, Path(folder), wide=True)
        asked = [node for node in wanted(graph) if node.kind in only] if only else wanted(graph)
        needed = {parent.key for node in asked for parent in node.ancestors()}
        for node in wanted(graph):
            if node.key in needed and node.kind not in SKIPPED:
                alone = get_context("fork").Process(target=run_one, args=(node, Path(folder) / "results"))
                alone.start()
                alone.join()
                if alone.exitcode:
                    sys.exit(alone.exitcode)


def run_one(node: GraphNode, results: Path) -> None:
    started = time.process_time()
    metrics = run_node(node, results, 0)["metrics"]
    loss = f", loss {metrics['train/loss']:.3g}" if "train/loss" in metrics else ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{node.paper} {node.kind} {node.name}: {time.process_time() - started:.0f} CPU s, {peak:.1f} GB{loss}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("papers", nargs="*")
    parser.add_argument("--only", nargs="*", default=[], help="stage kinds")
    args = parser.parse_args()
    papers = args.papers or [paper for paper, scale in CASES if scale == "paper"]
    if len(papers) == 1:
        return run(papers[0], args.only)
    for paper in papers:
        subprocess.run([sys.executable, "-m", "tests.bench.presets", paper, "--only", *args.only], check=True)


if __name__ == "__main__":
    main()
