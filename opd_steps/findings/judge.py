"""A plan's claims with their verdicts: what claims.json, the page and the tracking import say of them."""

from __future__ import annotations

from dataclasses import asdict, replace

from opd_steps.findings import sides
from opd_steps.findings.checkpoints import these_checkpoints
from opd_steps.findings.claims import stated, verdict
from opd_steps.findings.multiplicity import corrected
from opd_steps.findings.preconditions import held, testable
from opd_steps.findings.results import Plan


def judge(plan: Plan) -> dict[str, list[dict]]:
    """All claims by paper: direction (the verdict) kept apart from `same_contract` (the paper's own setting?) and from
    `these_checkpoints` (do the two models differ?), corrected for how many there are."""
    claims = corrected([_judge(plan, paper, claim) for paper, entry in plan.papers.items() for claim in entry["claims"]])
    return {paper: [claim for claim in claims if claim["paper"] == paper] for paper in plan.papers}


def _judge(plan: Plan, paper: str, claim: dict) -> dict:
    found = sides.measured(plan, claim)
    values = (sides.values(claim, found, "left"), sides.values(claim, found, "right"))
    direction = verdict(*values, claim["op"], claim["test"], claim["margin"])
    if lacking := sides.lacking(found):
        direction = replace(direction, reason="; ".join(lacking))
    requires = [held(plan, needed) for needed in claim["requires"]]
    return {
        "paper": paper,
        "id": claim["id"],
        "says": claim["says"],
        "states": stated(claim),
        "left": claim["left"]["label"],
        "op": claim["op"],
        "right": claim["right"]["label"],
        "margin": claim["margin"],
        "test": claim["test"],
        "reported": claim["reported"],
        "same_contract": claim["same_contract"],
        "differs": claim["differs"],
        "unequal": claim["unequal"],
        "requires": requires,
        "direction": asdict(testable(direction, requires)),
        "these_checkpoints": these_checkpoints(plan, claim, found),
        "seeds": found,
    }
