"""Whether the very checkpoints that a claim compares differ: a verdict over prompts, which says nothing about other seeds.

One seed is enough for it, because prompts are many. It answers another question than the claim: another training of the same
method may come out the other way.

The interval is the 95 % percentile interval of the paired bootstrap over prompts: RESAMPLES times, as many prompts as there are
are drawn with replacement, and left - right is averaged over them. The draws are the same for all pairs on equally many
prompts, which makes them one matrix product; scipy.stats.bootstrap would draw again for each of a thousand pairs (the tests hold
the one against the other). A bootstrap knows no more than it has seen: it trusts four differing prompts that agree, which chance
gives one time in eight. So sides that differ on fewer than MIN_DIFFERING prompts cannot be told apart; six that agree have p = 2/64.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from statistics import fmean

import numpy as np

from opd_steps.findings.claims import FAILS, HOLDS, OPEN, borders, decide
from opd_steps.findings.results import Plan
from opd_steps.findings.stats import LEVEL
from opd_steps.seeds import rng

LEFT, RIGHT, ALIKE = "left is higher", "right is higher", "cannot be told apart"
MIN_DIFFERING = 6
RESAMPLES = 4000
_AS_CLAIMED = {HOLDS: True, FAILS: False, OPEN: None}


def these_checkpoints(plan: Plan, claim: dict, sides: dict[int, dict]) -> dict | None:
    """{"seeds": {seed: verdict, as_claimed, effect, interval, prompts}, "counts": {verdict: number of seeds}}.

    None where the claim does not compare models by means over one set of prompts. A seed is left out where its prompts are
    not the same on both sides, or where the mean over them is not the published figure.
    """
    terms = [term for key in ("left", "right") for term in claim[key].get("terms", ())]
    one_set = len({(term["prompts"]["data"], term["prompts"]["file"]) if term["prompts"] else None for term in terms}) == 1
    if len(terms) < 2 or not one_set or not terms[0]["prompts"]:
        return None
    found: dict[int, dict] = {}
    for seed, both in sides.items():
        apart = _apart(plan, claim, both)
        if apart is not None:
            found[seed] = _verdict(apart, claim)
    return {"seeds": found, "counts": dict(Counter(each["verdict"] for each in found.values()))} if found else None


def bootstrap(apart_P: np.ndarray) -> list[float]:
    """The 95 % interval of a mean over prompts."""
    tails = (1 - LEVEL) / 2
    ends = np.quantile(_draws(len(apart_P)) @ apart_P, [tails, 1 - tails])
    return [round(float(end), 12) + 0.0 for end in ends]  # a mean of 0 is 0, whatever the rounding


@lru_cache(maxsize=2)
def _draws(n: int) -> np.ndarray:
    """How often each of n prompts is drawn, as a share, [RESAMPLES, n]."""
    picks = rng("paired bootstrap over prompts", n).integers(n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(picks.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n


def _verdict(apart_P: np.ndarray, claim: dict) -> dict:
    number = float(claim["right"].get("value", 0.0))
    low, high = (end - number for end in bootstrap(apart_P))
    told = np.count_nonzero(apart_P) >= MIN_DIFFERING
    place = lambda border: (low > border) - (high < border) if told else 0
    return {
        "verdict": {1: LEFT, -1: RIGHT, 0: ALIKE}[place(0.0)],
        "as_claimed": _AS_CLAIMED[decide(claim["op"], [place(border) for border in borders(claim["op"], claim["margin"])])],
        "effect": float(apart_P.mean()) - number,
        "interval": [low, high],
        "prompts": len(apart_P),
    }


def _apart(plan: Plan, claim: dict, both: dict[str, dict]) -> np.ndarray | None:
    """left - right at each prompt, numbers aside; None where they are not of the same prompts, or not what was published."""
    total, ids = None, None
    for key, side in both.items():
        for i, (term, figure) in enumerate(zip(claim[key]["terms"], side["figures"], strict=True)):
            result = plan.result(figure["path"])
            found = result.by_prompt(term["prompts"]["file"], term["prompts"]["value"])
            if not found or figure["value"] is None or (ids is not None and found.keys() != ids):
                return None
            if not math.isclose(fmean(found.values()), figure["value"], rel_tol=1e-9, abs_tol=1e-9):
                return None
            ids = found.keys() if ids is None else ids
            values = np.array([found[name] for name in ids])
            sign = (-1 if key == "right" else 1) * (-1 if i else 1)
            total = sign * values if total is None else total + sign * values
    return total
