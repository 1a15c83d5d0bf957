"""A card for each paper: what it says, its variants and their plugs, what is certain, its claims with their verdicts, its code."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from opd_steps.config.load import load_root
from opd_steps.config.plugs import plug_path
from opd_steps.graph.checked import checked
from opd_steps.graph.code import used_plugs
from opd_steps.graph.nodes import Graph
from tests.paper_table import VANILLA
from tests.site.links import ROOT, of_plug
from tests.site.text import folded, plain, table, told, verbatim
from tests.site.verdicts import Run, read

NAMES = sorted(path.stem for path in (ROOT / "workflow/papers").glob("*.yaml"))
AXES = {"teacher": "teacher", "signal": "signal", "rollouts": "rollouts used", "slot": "place in the pipeline"}


class Cards:
    """Of all papers of the repository."""

    def __init__(self) -> None:
        config = OmegaConf.to_container(OmegaConf.load(ROOT / "config.yaml"))
        self.graph = checked(Graph.of(load_root(config | {"papers": NAMES})))
        self.runs = [read(file) for file in sorted((ROOT / "docs").glob("claims*.md"))]
        self.plugs = {name: self._plugs(name) for name in NAMES}

    def _plugs(self, paper: str) -> list[tuple[str, str]]:
        """(group, name) of all that its nodes name."""
        nodes = (node for node in self.graph.nodes.values() if node.paper == paper)
        return sorted({plug for node in nodes for plug in used_plugs(node.says, node.options)})

    def run(self, paper: str) -> Run | None:
        """The run that held a paper, the newest of them."""
        return max((run for run in self.runs if paper in run.papers()), key=lambda run: run.when, default=None)

    def papers_of(self) -> dict[tuple[str, str], list[str]]:
        """The papers that name a plug."""
        found: dict[tuple[str, str], list[str]] = {}
        for paper, plugs in self.plugs.items():
            for plug in plugs:
                found.setdefault(plug, []).append(paper)
        return found

    def card(self, name: str) -> str:
        entry, file = self.graph.papers[name], ROOT / f"workflow/papers/{name}.yaml"
        text = file.read_text()
        parts = [f"# {plain(entry['paper']['title'])}\n", self._head(name, entry), "## What it says\n", told(_comment(text))]
        if notes := entry["paper"]["notes"]:
            parts += ["## What is certain\n", *(plain(part) + "\n" for part in notes.split("\n\n"))]
        parts += ["## Variants\n", self._variants(name), "## Claims\n", self._claims(name, entry)]
        parts += ["## Code\n", self._code(name), folded(f"workflow/papers/{name}.yaml", verbatim(text, "yaml"))]
        return "\n".join(parts)

    def _head(self, name: str, entry: dict) -> str:
        meta = entry["paper"]
        rows = [["paper", f"[arXiv {meta['arxiv']}](https://arxiv.org/abs/{meta['arxiv']})" if meta["arxiv"] else "–"]]
        rows += [[words, plain(meta["axes"][axis])] for axis, words in AXES.items() if meta["axes"][axis]]
        rows.append(["shares nodes with", ", ".join(f"[{used}](/papers/{used}.md)" for used in entry["use"]) or "–"])
        rows.append(["outside data", "needed" if meta["external_data"] else "none"])
        return table(["", ""], [*rows, ["to run it", f"`snakemake all --config papers=[{name}]`"]])

    def _variants(self, name: str) -> str:
        rows = []
        for node in self.graph.nodes.values():
            if node.paper == name and (node.says.TRAINS or node.kind == "analyze"):
                named = dict.fromkeys(used_plugs(node.says, node.options))
                shown = [f"[{plug}]({of_plug(group, plug)})" for group, plug in named if _own(group, plug)]
                reads = [f"{plain(role.removesuffix('.model'))}: `{parent.name}`" for role, parent in node.parents.items()]
                rows.append([f"`{node.name}`", f"[{node.kind}](/kinds.md#{node.kind})", ", ".join(reads), ", ".join(shown)])
        return "Plugs beside vanilla's, in all terms of the method.\n\n" + table(["node", "kind", "reads", "plugs"], rows)

    def _claims(self, name: str, entry: dict) -> str:
        if not entry["claims"]:
            return "It makes none.\n"
        needs: dict[str, dict] = {}
        for paper in (*entry["use"], name):
            needs |= self.graph.papers[paper]["preconditions"]
        rows = [self._claim(name, claim) for claim in entry["claims"]]
        parts = [
            _source(self.run(name)),
            table(["claim", "what is compared", "verdict", "effect", "requires", "reported", "what differs"], rows),
        ]
        required = {need: needs[need] for claim in entry["claims"] for need in claim["requires"] if need in needs}
        if required:
            lines = [f"- *{plain(n)}*: `{r['left']} {r['op']} {r['right']}`; {plain(r['why'])}" for n, r in required.items()]
            parts.append("What they require, written down before the run:\n\n" + "\n".join(lines) + "\n")
        return "\n".join(parts)

    def _claim(self, name: str, claim: dict) -> list[str]:
        run = self.run(name)
        known = run.claims.get((name, claim["says"]), []) if run else []
        judged = next((each for each in known if each.of(claim)), None)
        margin = f" ± {claim['margin']}" if claim["margin"] else ""
        if judged:
            came = [judged.verdict, judged.effect if judged.effect == "–" else f"{judged.effect}, {judged.seeds} seeds"]
        else:
            came = ["no verdict at hand: " + ("what it compares has changed since" if known else "not in that run"), "–"]
        stated = f"`{claim['left']} {claim['op']} {claim['right']}{margin}`"
        requires = ", ".join(map(plain, claim["requires"])) or "–"
        return [plain(claim["says"]), stated, *came, requires, plain(claim["reported"] or "–"), plain(claim["differs"] or "–")]

    def _code(self, name: str) -> str:
        users, rows = self.papers_of(), []
        for group, plug in self.plugs[name]:
            if _own(group, plug):
                lines = len(plug_path(group, plug).read_text().splitlines())
                others = len(users[group, plug]) - 1
                rows.append([f"[{plug}]({of_plug(group, plug)})", f"`opd_steps/{group}/{plug}.py`", str(lines), str(others)])
        if not rows:
            return "Vanilla's plugs alone; all else is its YAML.\n"
        return table(["plug", "file", "lines", "other papers that name it"], rows)


def _own(group: str, plug: str) -> bool:
    """Whether vanilla OPD has another."""
    return plug not in VANILLA and (group, plug) not in (("tune", "full"), ("gradients", "plain"))


def _comment(text: str) -> str:
    """The comment at the top of a paper's file."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines)


def _source(run: Run | None) -> str:
    if not run:
        return "No verdict is at hand: no run of [](/claims.md) held this paper.\n"
    changed = "What changed since then, models and budgets too, is not in them."
    return f"Verdicts of the run of [](/{run.page}.md): tiny models, {run.when}. {changed}\n"


def pages(cards: Cards) -> dict[str, str]:
    """Markdown by name."""
    return {str(Path("papers") / f"{name}.md"): cards.card(name) for name in NAMES}
