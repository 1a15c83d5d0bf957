"""Many claims at once: how many would be decided by chance, and which survive a correction (Benjamini-Hochberg)."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import false_discovery_control

from opd_steps.findings.claims import FAILS, HOLDS, MIN_SEEDS, OPEN
from opd_steps.findings.stats import LEVEL


@dataclass(frozen=True)
class Chance:
    """Of all claims of a run: `by_chance` of those tested would be decided if every true difference lay at its border, 0 of > and <."""

    tested: int
    decided: int
    by_chance: float
    survive: int


def corrected(claims: list[dict]) -> list[dict]:
    """The claims with `p_adjusted`, None where nothing was tested, and `survives`.

    p_adjusted of the i-th smallest of m p-values is the smallest of p_(j) m / j over j >= i: among claims with at most 5 % of it,
    no more than 5 % are expected to be false (Benjamini and Hochberg 1995; of tests that are independent or go together).
    """
    tested = [i for i, claim in enumerate(claims) if _tested(claim["direction"])]
    adjusted = (
        dict(zip(tested, false_discovery_control([claims[i]["direction"]["p"] for i in tested]), strict=True)) if tested else {}
    )
    return [claim | _marks(claim["direction"]["verdict"], adjusted.get(i)) for i, claim in enumerate(claims)]


def chance(claims: list[dict]) -> Chance:
    """The summary of corrected claims."""
    tested = [claim for claim in claims if claim["p_adjusted"] is not None]
    decided = [claim for claim in tested if claim["direction"]["verdict"] != OPEN]
    return Chance(len(tested), len(decided), round((1 - LEVEL) * len(tested), 2), sum(claim["survives"] for claim in tested))


def _tested(direction: dict) -> bool:
    return direction["verdict"] in (HOLDS, FAILS, OPEN) and direction["n"] >= MIN_SEEDS and direction["p"] is not None


def _marks(verdict: str, adjusted: float | None) -> dict:
    if adjusted is None:
        return {"p_adjusted": None, "survives": False}
    return {"p_adjusted": float(adjusted), "survives": verdict != OPEN and bool(adjusted <= 1 - LEVEL)}
