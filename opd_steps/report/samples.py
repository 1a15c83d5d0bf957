"""Samples before and after: what teacher, student and every variant answered to the same prompts, right and wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from opd_steps.findings.results import Plan, Result
from opd_steps.graph.kinds import KINDS
from opd_steps.report.comparison import evaluations

EACH, TEXT, WANTED = 3, 600, 40  # prompts of one change; characters of a text; of a right answer, longer ones are left out
LEARNED, LOST, NEVER, ALWAYS = "learned", "lost", "still wrong", "right before and after"
CHANGES = (LEARNED, LOST, NEVER, ALWAYS)
ROLES = ("teacher", "before", "after", "")


@dataclass(frozen=True)
class Answer:
    name: str
    role: str  # teacher, before, after, or "" of a model that is neither
    text: str
    right: bool
    of: str  # "5 of 8", how many samples are right


@dataclass(frozen=True)
class Prompt:
    id: str
    text: str
    wanted: str
    change: str
    answers: list[Answer]


@dataclass(frozen=True)
class Samples:
    """Prompts of one data set's split. `counts`: how many prompts of each change it has."""

    data: str
    split: str
    seed: int
    prompts: list[Prompt]
    counts: dict[str, int]


def samples(plan: Plan, paper: str) -> list[Samples]:
    """Of the first seed, the first prompts of each change: a prompt is learned where some variant is right and what it started from is
    not, lost where it is the other way round and nothing is learned. Evaluations whose files hold no texts are left out."""
    role_of, starts = roles(plan, paper)
    groups: dict[tuple[str, str], dict[str, tuple[Result, int]]] = {}
    for node, runs in evaluations(plan, paper):
        seed, run = next(iter(runs.items()))
        for file in sorted(run.manifest["files"], reverse=True):  # test before ood
            if file.startswith("samples/"):
                groups.setdefault((node["parents"].get("data", ""), file), {})[run.variant] = run, seed
    found = [_group(data, file, runs, role_of, starts) for (data, file), runs in groups.items()]
    return [each for each in found if each and each.prompts]


def roles(plan: Plan, paper: str) -> tuple[dict[str, str], dict[str, str]]:
    """Role of each model, and what each variant started from."""
    found, starts = {}, {}
    name = lambda key: key.split("/", 2)[2]
    variants = [node for node in plan.nodes(paper) if KINDS[node["kind"]].VARIANTS]
    for node in variants:
        for role, key in node["parents"].items():
            if role.split(".")[0] in ("teacher", "teachers"):
                found[name(key)] = "teacher"
        starts[node["name"]] = name(node["parents"][KINDS[node["kind"]].START])
    return found | dict.fromkeys(starts.values(), "before") | dict.fromkeys(starts, "after"), starts


def _group(data: str, file: str, runs: dict[str, tuple[Result, int]], roles: dict, starts: dict) -> Samples | None:
    tables = {
        name: _answers(run, file, name, roles.get(name, roles.get(name.partition(":")[0], "")))
        for name, (run, _) in runs.items()
    }
    tables = {name: table for name, table in tables.items() if table}
    if not tables:
        return None
    shared = [key for key in next(iter(tables.values())) if all(key in table for table in tables.values())]
    pairs = [(tables[start], tables[name]) for name, start in starts.items() if name in tables and start in tables]
    pairs = pairs or [(table, table) for table in tables.values()]  # nothing that was distilled: right or wrong is all there is
    prompts: dict[str, list[Prompt]] = {change: [] for change in CHANGES}
    counts: Counter = Counter()
    for key in shared:
        change = _change([(before[key][1].right, after[key][1].right) for before, after in pairs])
        counts[change] += 1
        if len(prompts[change]) < EACH:
            row = next(iter(tables.values()))[key][0]
            wanted = str(row.get("answer", ""))
            answers = sorted((table[key][1] for table in tables.values()), key=lambda a: ROLES.index(a.role))
            prompts[change].append(
                Prompt(key, cut(row.get("prompt", "")), wanted if len(wanted) <= WANTED else "", change, answers)
            )
    seed = next(iter(runs.values()))[1]
    return Samples(data.rpartition("/")[2], Path(file).stem, seed, [p for c in CHANGES for p in prompts[c]], counts)


def _change(pairs: list[tuple[bool, bool]]) -> str:
    if any(after and not before for before, after in pairs):
        return LEARNED
    if any(before and not after for before, after in pairs):
        return LOST
    return ALWAYS if all(after for _, after in pairs) else NEVER


def _answers(run: Result, file: str, name: str, role: str) -> dict[str, tuple[dict, Answer]]:
    """Row and answer by the prompt's id; of several answers to a prompt the first. {} where the rows hold no text."""
    found: dict[str, tuple[dict, Answer]] = {}
    k = run.manifest["facts"].get("k")
    for row in _rows(run.folder / file):
        text, right = row.get("greedy", row.get("text")), row.get("correct", row.get("reward"))
        if text is None or right is None:
            return {}
        of = f"{row['c']} of {k}" if k and "c" in row else ""
        found.setdefault(row["id"], (row, Answer(name, role, cut(text), right > 0, of)))
    return found


def _rows(file: Path) -> Iterable[dict]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def cut(text: str) -> str:
    """The text, of a long one its two ends."""
    return text if len(text) <= TEXT else f"{text[: TEXT // 2]} […] {text[-TEXT // 2 :]}"
