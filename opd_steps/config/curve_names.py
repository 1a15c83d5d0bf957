"""Names of the curves that the loop draws, and of those that show what controllers set."""

from __future__ import annotations

TRAIN = ("loss", "grad_norm", "grad_variance", "lr", "tokens")
PROBABILITIES = ("entropy", "sampler_gap", "sampler_gap_max", "sampler_kl")
POLICY = (*TRAIN, "entropy", "length", "reward", "truncated", *PROBABILITIES[1:])


def controlled(path: str) -> str:
    """The curve that shows an option which a controller sets: the option's name, or set_<name> where the loop has such a curve."""
    name = path.rsplit(".", 1)[-1]
    return f"set_{name}" if name in POLICY else name
