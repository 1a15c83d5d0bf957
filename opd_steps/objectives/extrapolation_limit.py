"""How far a teacher may be extrapolated before one structural token is certain: our derivation for arXiv 2605.08737."""

from __future__ import annotations

from math import exp, log


def logit(p: float) -> float:
    return log(p / (1 - p))


def fixed_point(lam: float, p: float, b: float) -> float:
    """The probability pi of a binary token at which lam log p + (1 - lam) log b - log pi is the same for it and its opposite:
    logit pi = lam logit p + (1 - lam) logit b. p: the teacher's probability, b: the warm start's."""
    return 1 / (1 + exp(-lam * logit(p) - (1 - lam) * logit(b)))


def limit(p: float, b: float, tail: float) -> float:
    """The lam at which the fixed point is 1 - tail: (logit(1 - tail) - logit b) / (logit p - logit b).

    Beyond it the tail is too small for a clipped importance ratio to correct. What `tail` a clip allows is calibrated, not
    derived. A neutral warm start, b = 1/2, gives logit(1 - tail) / logit p. Raises ValueError unless 0 < b < p < 1 and 0 < tail < 1.
    """
    if not (0 < b < p < 1 and 0 < tail < 1):
        raise ValueError(f"needs 0 < b < p < 1 and 0 < tail < 1, found b {b}, p {p}, tail {tail}")
    return (logit(1 - tail) - logit(b)) / (logit(p) - logit(b))
