"""A plan's claims with their verdicts: what claims.json, the page and the tracking import say of them."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

from opd_steps.findings.claims import verdict
from opd_steps.findings.results import Plan, distinct


def judge(plan: Plan, paper: str) -> list[dict]:
    """All claims of one paper: direction (the verdict) kept apart from `same_contract` (the paper's own setting?)."""
    return [_judge(plan, paper, claim) for claim in plan.papers[paper]["claims"]]


def _judge(plan: Plan, paper: str, claim: dict) -> dict:
    left, right = claim["left"], claim["right"]
    # Two nodes that are pinned to one seed are one pair, however many seeds the run has.
    pairs = distinct({seed: (path, right.get("paths", {}).get(seed)) for seed, path in left["paths"].items()})
    measured = {int(seed): _side(plan, left, pair[0]) for seed, pair in pairs.items()}
    other = {int(seed): _side(plan, right, pair[1]) for seed, pair in pairs.items()} if "paths" in right else {}
    values = {seed: side["value"] for seed, side in measured.items()}
    against = {seed: side["value"] for seed, side in other.items()} if other else float(right["value"])
    sides = {seed: {"left": measured[seed]} | ({"right": other[seed]} if other else {}) for seed in measured}
    direction = verdict(values, against, claim["op"], claim["test"])
    if lacking := [_said(side) for both in sides.values() for side in both.values() if _said(side)]:
        direction = replace(direction, reason="; ".join(lacking))
    return {
        "paper": paper,
        "id": claim["id"],
        "says": claim["says"],
        "left": left["label"],
        "op": claim["op"],
        "right": right["label"],
        "test": claim["test"],
        "reported": claim["reported"],
        "same_contract": claim["same_contract"],
        "differs": claim["differs"],
        "unequal": claim["unequal"],
        "direction": asdict(direction),
        "seeds": sides,
    }


def _said(side: dict) -> str:
    """Which node and seed has no figure for the claim; "" where there is one."""
    if side["found"] == "finite":
        return ""
    return (
        f"{side['path']}: {side['metric']} is {side['found']}"
        if side["found"] != "nothing"
        else f"{side['path']} has no {side['metric']}"
    )


def _side(plan: Plan, side: dict, path: str) -> dict:
    manifest = plan.result(path).manifest
    value = manifest["metrics"].get(side["metric"])
    finite = value is not None and math.isfinite(value)
    return {
        "value": value if finite else None,
        "found": "finite" if finite else "nothing" if value is None else str(value),  # JSON has no word for nan and inf
        "metric": side["metric"],
        "path": path,
        "fingerprint": manifest["fingerprint"],
        "commit": manifest["git_commit"],
    }
