"""Which results an edit of each file of the package makes stale, found by editing each: `python -m tests.pipeline.edits` in a copy.

Prints {"objectives/signals/jsd.py": {"stale": [kinds], "spared": [kinds]}}: kinds that have nodes, among those of all papers and of
engines beside the local one, whose code changes; and those of them that also have nodes whose code does not. It restores what it edits.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

from opd_steps.config.load import load_paper
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.store.fingerprint import PACKAGE, closure, source_hash

ENGINES = ({}, {"engine": "vllm", "teacher_engine": "vllm"}, {"engine": "server", "teacher_engine": "server"})
SCALES = ("tiny", "small", "paper")
PATHS = {"gsm8k": "openai/gsm8k", "humaneval": "openai/openai_humaneval"}
EDIT = "\n\nEDITED = 1\n"


def codes() -> dict[tuple[str, tuple[Path, ...]], frozenset[Path]]:
    """(kind, its files) -> all files of its code, for all different nodes of all papers."""
    found = {}
    everyone = {path.stem: load_paper(path.stem, PATHS)["scales"] for path in sorted(Path("workflow/papers").glob("*.yaml"))}
    for engines, scale in [*itertools.product(ENGINES[:1], SCALES), *itertools.product(ENGINES[1:], SCALES[:1])]:
        papers = ["quickstart"] if engines else [paper for paper, scales in everyone.items() if scale in scales]
        for node in checked(Graph(papers, scale, engines, paths=PATHS)).nodes.values():
            options = node.options | ({"backend": "vllm"} if engines and "backend" in node.options else {})
            files = dataclasses.replace(node, options=options).files
            found[node.kind, files] = frozenset(closure(*files))
    return found


def main() -> None:
    of, table = codes(), {}
    files = sorted(PACKAGE.rglob("*.py"))
    before = {path: source_hash(path) for path in files}
    for path in files:
        text = path.read_text()
        path.write_text(text + EDIT)
        changed = {other for other in files if source_hash(other) != before[other]}
        path.write_text(text)
        stale = {key[0] for key, its in of.items() if its & changed}
        spared = {key[0] for key, its in of.items() if not its & changed} & stale
        table[str(path.relative_to(PACKAGE))] = {"stale": sorted(stale), "spared": sorted(spared)}
    print(json.dumps(table))


if __name__ == "__main__":
    main()
