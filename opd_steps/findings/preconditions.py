"""Where a claim can be seen: what it requires, held against the means over the seeds that ran."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from opd_steps.findings import sides
from opd_steps.findings.claims import UNMEASURED, UNTESTABLE, Verdict, difference, stated
from opd_steps.findings.results import Plan


def held(plan: Plan, needed: dict) -> dict:
    """A precondition with its figures: `met` is None where one of them is not measured. `says`: all of that in words."""
    found = sides.measured(plan, needed)
    states = stated(needed)
    out = {"name": needed["name"], "why": needed["why"], "states": states, "left": None, "right": None, "met": None}
    if lacking := sides.lacking(found):
        return out | {"says": f"needs {states}, not measured: {'; '.join(lacking)}"}
    left, right = _mean(needed, found, "left"), _mean(needed, found, "right")
    apart = difference(left, right)
    against = f" and {right:.4g}" if "terms" in needed["right"] else ""
    says = f"needs {states}, found {left:.4g}{against}"
    return out | {"left": left, "right": right, "met": apart > 0 if needed["op"] == ">" else apart < 0, "says": says}


def testable(direction: Verdict, needs: list[dict]) -> Verdict:
    """The verdict, or in its place that the claim is not testable here, or that what it requires is not measured.

    Effect, interval and p stay what they are.
    """
    for met, verdict in ((False, UNTESTABLE), (None, UNMEASURED)):
        if failed := [needed["says"] for needed in needs if needed["met"] is met]:
            also = [direction.reason] if direction.verdict == UNMEASURED else []
            return replace(direction, verdict=verdict, reason="; ".join([*failed, *also]))
    return direction


def _mean(needed: dict, found: dict, key: str) -> float:
    values = sides.values(needed, found, key)
    return values if isinstance(values, float) else fmean(values.values())
