"""The curves that the loop itself draws, and how the curve of an option is named that a controller moves."""

from __future__ import annotations

TRAIN = ("loss", "grad_norm", "grad_variance", "lr", "tokens")
POLICY = (*TRAIN, "entropy", "length", "reward", "truncated", "sampler_gap", "sampler_gap_max", "sampler_kl")


def controlled(path: str) -> str:
    """The curve of an option that a controller moves: the option's own name, or set_<name> where the loop draws that name."""
    name = path.rsplit(".", 1)[-1]
    return f"set_{name}" if name in POLICY else name
