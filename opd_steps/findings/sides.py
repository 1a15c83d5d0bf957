"""What both sides of a claim or precondition measured, seed by seed."""

from __future__ import annotations

import math

from opd_steps.findings.claims import difference
from opd_steps.findings.results import Plan, distinct


def measured(plan: Plan, entry: dict) -> dict[int, dict[str, dict]]:
    """Seed -> {"left": side, "right": side}, without a right one where it is a number.

    A side has a `value`, None where a figure of it is none, and its `figures`, of which a second one is subtracted. Nodes that
    are pinned to one seed are one pair, however many seeds the run has.
    """
    sides = {key: entry[key]["terms"] for key in ("left", "right") if "terms" in entry[key]}
    terms = [term for side in sides.values() for term in side]
    pairs = distinct({seed: tuple(term["paths"].get(seed) for term in terms) for seed in terms[0]["paths"]})
    return {int(seed): {key: _side(plan, side, seed) for key, side in sides.items()} for seed in pairs}


def values(entry: dict, sides: dict[int, dict], key: str) -> dict[int, float | None] | float:
    """The values of one side by seed, or its number."""
    number = entry[key].get("value")
    return float(number) if number is not None else {seed: both[key]["value"] for seed, both in sides.items()}


def lacking(sides: dict[int, dict]) -> list[str]:
    """Which node and seed has no figure."""
    figures = [figure for both in sides.values() for side in both.values() for figure in side["figures"]]
    return list(dict.fromkeys(_said(figure) for figure in figures if figure["found"] != "finite"))


def _said(figure: dict) -> str:
    if figure["found"] == "nothing":
        return f"{figure['path']} has no {figure['metric']}"
    return f"{figure['path']}: {figure['metric']} is {figure['found']}"


def _side(plan: Plan, terms: list[dict], seed: str) -> dict:
    figures = [_figure(plan, term["metric"], term["paths"][seed]) for term in terms]
    found = [figure["value"] for figure in figures]
    value = None if None in found else difference(*found) if len(found) == 2 else found[0]
    return {"value": value, "figures": figures}


def _figure(plan: Plan, metric: str, path: str) -> dict:
    manifest = plan.result(path).manifest
    value = manifest["metrics"].get(metric)
    finite = value is not None and math.isfinite(value)
    return {
        "value": value if finite else None,
        "found": "finite" if finite else "nothing" if value is None else str(value),  # JSON has no word for nan and inf
        "metric": metric,
        "path": path,
        "fingerprint": manifest["fingerprint"],
        "commit": manifest["git_commit"],
    }
