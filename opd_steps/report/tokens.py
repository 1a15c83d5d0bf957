"""Tokens as the objective saw them while a variant was trained (loop.tokens), for the page to colour."""

from __future__ import annotations

import json

from opd_steps.findings.results import Plan, Result
from opd_steps.graph.kinds import KINDS

FILE = "tokens.jsonl"


def tokens(plan: Plan, paper: str) -> dict[str, list[dict]]:
    """Variant -> the rows of its first seed: {step, prompt, reward, length, tokens, heard, columns}."""
    found = {}
    for node in plan.nodes(paper):
        if KINDS[node["kind"]].VARIANTS:
            run = next(iter(plan.seeds(node).values()))
            if rows := _rows(run):
                found[node["name"]] = rows
    return found


def columns(found: dict[str, list[dict]], known: list[str]) -> list[str]:
    """Names of all columns, those of `known` first."""
    names = {name for rows in found.values() for row in rows for name in row["columns"]}
    return [name for name in known if name in names] + sorted(names - set(known))


def _rows(run: Result) -> list[dict]:
    if FILE not in run.manifest["files"]:
        return []
    return [json.loads(line) for line in (run.folder / FILE).read_text(encoding="utf-8").splitlines()]
