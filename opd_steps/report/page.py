"""A paper's page: everything that its template shows, as plain values."""

from __future__ import annotations

from collections import Counter

from markupsafe import Markup

from opd_steps.findings.claims import UNTESTABLE, VERDICTS
from opd_steps.findings.multiplicity import chance
from opd_steps.findings.results import Plan, produces
from opd_steps.graph.kinds import KINDS
from opd_steps.report import comparison
from opd_steps.report.against import charts
from opd_steps.report.analyses import analyses
from opd_steps.report.axes import look, number
from opd_steps.report.curves import chart, gaps, series
from opd_steps.report.dag import Box, draw
from opd_steps.report.forest import forest
from opd_steps.report.samples import samples
from opd_steps.report.shown import shown
from opd_steps.report.tokens import columns, tokens

WAYS = {True: "as claimed", False: "the other way", None: "open on these prompts"}
AXES = ("teacher", "signal", "rollouts", "slot")


def paper(plan: Plan, name: str, claims: list[dict], captions: dict) -> dict:
    """`claims`: as they were judged."""
    paper, counts = plan.papers[name], Counter(c["direction"]["verdict"] for c in claims)
    metrics = comparison.metric_names(plan, name, list(captions["metrics"]))
    rows = comparison.rows(plan, name, metrics)
    variants = [node["name"] for node in plan.nodes(name) if KINDS[node["kind"]].VARIANTS]
    order = {model: i for i, model in enumerate(dict.fromkeys([*variants, *(row.name for row in rows)]))}
    curves, seen = _curves(plan, name, order, captions), tokens(plan, name)
    return {
        "name": name,
        "title": paper["title"],
        "links": [(f"arXiv {paper['arxiv']}", f"https://arxiv.org/abs/{paper['arxiv']}")] if paper["arxiv"] else [],
        "axes": {axis: paper["axes"][axis] for axis in AXES if paper["axes"].get(axis)},
        "notes": [part for part in paper["notes"].split("\n\n") if part.strip()],
        "file": paper["file"],
        "graph": Markup(draw(_boxes(plan, name))) if paper["nodes"] else "",
        "metrics": metrics,
        "rows": rows,
        "sweeps": comparison.sweeps(plan, name, rows),
        "analyses": analyses(plan, name),
        "curves": curves,
        "lines": max(map(len, [order, *(group["legend"] for group in curves)])),
        "legend": [(row.name, f"{look(order[row.name])} s{order[row.name]}") for row in rows],
        "against": charts(plan, name, rows, metrics, order, captions),
        "samples": samples(plan, name),
        "shown": shown(plan, name),
        "tokens": seen,
        "columns": columns(seen, list(captions["tokens"])),
        "claims": [_claim(c) for c in claims],
        "counts": counts,
        "verdicts": [(verdict, counts[verdict]) for verdict in VERDICTS],
        "chance": chance(claims),
        "pairs": pairs(claims),
        "requires": list({needed["name"]: needed for claim in claims for needed in claim["requires"]}.values()),
        "provenance": _provenance(plan, name),
    }


def _claim(claim: dict) -> dict:
    found, lines = claim["direction"], []
    for seed, sides in claim["seeds"].items():
        shown = lambda figure: number(figure["value"]) if figure["found"] == "finite" else figure["found"]
        values = " against ".join(" − ".join(map(shown, side["figures"])) for side in sides.values())
        lines.append(f"seed {seed}: {values}  ({', '.join(f['path'] for side in sides.values() for f in side['figures'])})")
    picture = Markup(forest(found["effect"], found["interval"], claim["op"], claim["margin"]))
    return claim | {"forest": picture, "tooltip": "\n".join(lines), "checkpoints": _checkpoints(claim)}


def _checkpoints(claim: dict) -> list[dict]:
    """One entry for each verdict over prompts: how many seeds' checkpoints have it, and whether that is as claimed."""
    seeds = (claim["these_checkpoints"] or {"seeds": {}})["seeds"]
    entries = []
    for verdict, n in Counter(each["verdict"] for each in seeds.values()).items():
        found = {seed: each for seed, each in seeds.items() if each["verdict"] == verdict}
        ends = {seed: f"[{', '.join(number(end, 3) for end in each['interval'])}]" for seed, each in found.items()}
        ways = {each["as_claimed"] for each in found.values()}
        entry = {"verdict": verdict, "tone": WAYS[ways.pop()] if len(ways) == 1 else WAYS[None]}
        entry["says"] = ends.popitem()[1] if len(seeds) == 1 else f"{n} of {len(seeds)} seeds"
        lines = [
            f"seed {s}: {number(e['effect'], 3)} {ends.get(s, entry['says'])}, {e['prompts']} prompts" for s, e in found.items()
        ]
        entries.append(entry | {"tooltip": "\n".join(lines)})
    return entries


def pairs(claims: list[dict]) -> list[tuple[str, int]]:
    """How many pairs of checkpoints, each of one claim that is testable and one seed, came out how."""
    testable = [c["these_checkpoints"] for c in claims if c["these_checkpoints"] and c["direction"]["verdict"] != UNTESTABLE]
    counts = Counter(WAYS[each["as_claimed"]] for found in testable for each in found["seeds"].values())
    return [(way, counts[way]) for way in WAYS.values() if counts[way]]


def _boxes(plan: Plan, paper: str) -> list[Box]:
    """The paper's nodes in topological order. Evaluations become marks; a data set's edges are drawn to its first readers."""
    nodes = {f"{n['owner']}/{n['kind']}/{n['name']}": n for n in plan.nodes(paper)}
    evaluated = {n["parents"]["model"].partition(":")[0] for n in nodes.values() if produces(n["kind"]) == "evaluation"}
    boxes: dict[str, Box] = {}

    def visit(key: str) -> Box:
        if key not in boxes:
            node = nodes[key]
            read = {role: parent.partition(":")[0] for role, parent in node["parents"].items()}
            parents = {role: visit(parent) for role, parent in read.items() if parent in nodes}
            others = [(role, box) for role, box in parents.items() if produces(box.kind) != "data"]
            box = Box(node["name"], node["kind"], node["owner"] != paper, marked=key in evaluated)
            box.parents = others or list(parents.items())
            box.href = f"#{paper}-{node['kind']}-{node['name']}"
            box.note = "\n".join(
                [f"{node['kind']} {node['name']} of {node['owner']}", *(f"{role}: {p}" for role, p in node["parents"].items())]
            )
            boxes[key] = box
        return boxes[key]

    for key, node in nodes.items():
        if produces(node["kind"]) != "evaluation":
            visit(key)
    return list(boxes.values())


def _curves(plan: Plan, paper: str, order: dict[str, int], captions: dict) -> list[dict]:
    """Per kind of training node its models and one chart per metric, the last kind of the pipeline first.

    Where all models of a kind are another paper's that has a page of its own, they are named and not drawn again.
    """
    groups = []
    nodes = plan.nodes(paper)
    kinds = {node["kind"] for node in nodes}
    for kind in (kind for kind in reversed(KINDS) if kind in kinds):
        runs = {n["name"]: {seed: r.curves for seed, r in plan.seeds(n).items()} for n in nodes if n["kind"] == kind}
        runs = {name: found for name, found in runs.items() if any(found.values())}
        owners = sorted({n["owner"] for n in nodes if n["name"] in runs and n["kind"] == kind})
        if runs and paper not in owners and all(owner in plan.papers for owner in owners):
            groups.append({"kind": kind, "legend": [], "charts": [], "names": list(runs), "of": owners})
            continue
        found = {key for curves in runs.values() for rows in curves.values() for row in rows for key in row} - {"step"}
        metrics = [m for m in captions["curves"] if m in found] + sorted(found - {*captions["curves"], *captions["hidden"]})
        number_of = {name: order[name] if KINDS[kind].VARIANTS else i for i, name in enumerate(runs)}
        drawn = []
        for metric in metrics:
            lines = {i: s for name, i in number_of.items() if (s := series(name, metric, list(runs[name].values())))}
            lacking = [
                f"{name} seed {seed}: {steps}"
                for name, curves in runs.items()
                for seed, rows in curves.items()
                if (steps := gaps(metric, rows))
            ]
            caption = captions["curves"].get(metric, {})
            svg = chart(lines, caption.get("label", metric), caption.get("unit", ""))
            drawn.append({"metric": metric, "caption": caption, "gaps": "; ".join(lacking), "svg": Markup(svg)})
        if drawn:
            legend = [(name, f"{look(i)} s{i}") for name, i in number_of.items()]
            groups.append({"kind": kind, "legend": legend, "charts": drawn, "names": list(runs), "of": []})
    return groups


def _provenance(plan: Plan, paper: str) -> list[dict]:
    found = []
    for node in plan.nodes(paper):
        for seed, run in plan.seeds(node).items():
            entry = {"node": node["name"], "kind": node["kind"], "owner": node["owner"], "seed": seed, "path": run.path}
            cost = comparison.duration(run.timing["wall_s"]) if "wall_s" in run.timing else "–"
            found.append(entry | {"manifest": run.manifest, "weights": run.weights_sha256, "wall": cost})
    return found
