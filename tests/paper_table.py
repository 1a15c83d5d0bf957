"""Writes docs/papers.md: every paper, its terms, its claims, and the code that it alone brought. `python -m tests.paper_table`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from omegaconf import OmegaConf

from opd_steps.config.load import load_root, self_contained
from opd_steps.config.plugs import plug_path
from opd_steps.graph.checked import checked
from opd_steps.graph.code import used_plugs
from opd_steps.graph.nodes import Graph

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/papers.md"
VANILLA = {"teacher", "sampled", "log_ratio", "pg", "none", "student", "frozen", "plain", "uniform"}
VANILLA |= {"causal_lm", "prompts", "lm_eval"}
SHARED = ("tasks/sources", "tasks/verifiers", "tasks/hints", "tune")
HEAD = """<!-- Written by `python -m tests.paper_table` from workflow/papers; a test compares. Edit those, not this. -->
# Papers

`snakemake all --config papers=[vopd,tip]` runs some of them, `papers=all` all of this page. They share one data set, base model, teacher and
cold start with the quickstart where their claims allow it; each adds the variants named here. What came out:
[claims.md](claims.md), each claim with its verdict.

*plugs*: the files beside vanilla's that the variants name. *own code*: those of them that no other paper names, with their lines; the others
are the field's common stock. All else of a method is its YAML. All this is of scale tiny.

*scales*: tiny, in minutes on a laptop; small, published models and public data on GPUs of 80 GB; paper, what the source ran
([plan.md](plan.md#presets-of-scale-paper)).

| paper | arXiv | scales | variants | claims | plugs | own code |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    config = OmegaConf.to_container(OmegaConf.load(ROOT / "config.yaml"))
    papers = self_contained()
    graph = checked(Graph.of(load_root(config | {"papers": papers})))
    used = {name: _plugs(graph, name) for name in papers}
    count = Counter(plug for plugs in used.values() for plug in plugs)
    lines = []
    for name in papers:
        entry = graph.papers[name]
        variants = [n.name for n in graph.nodes.values() if n.paper == name and n.says.TRAINS]
        own = [plug for plug in used[name] if count[plug] == 1]
        code = [f"{p[1]} {len(plug_path(*p).read_text().splitlines())}" for p in own]
        cells = [
            f"[{name}](../workflow/papers/{name}.yaml): {entry['paper']['title']}",
            entry["paper"]["arxiv"] or "-",
            ", ".join(entry["scales"]) or "as those that it uses",
            ", ".join(variants),
            str(len(entry["claims"])),
            ", ".join(p[1] for p in used[name]) or "vanilla's",
            ", ".join(code) or "YAML alone",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return HEAD + "\n".join(lines) + "\n"


def _plugs(graph: Graph, paper: str) -> list[tuple[str, str]]:
    found = {}
    for node in graph.nodes.values():
        if node.paper == paper:
            for group, name in used_plugs(node.says, node.options):
                if name not in VANILLA and group not in SHARED:
                    found[group, name] = None
    return sorted(found)


if __name__ == "__main__":
    PAGE.write_text(page())
