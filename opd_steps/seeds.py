"""Counter-based randomness: every draw is a function of (seed, purpose, step, ...), so a resumed run has no RNG state to restore."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(*parts: object) -> int:
    """A 63-bit seed from any printable parts, e.g. `derive(seed, "rollout", step, prompt_id, sample)`."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def rng(*parts: object) -> np.random.Generator:
    """A numpy generator that depends on `parts` alone."""
    return np.random.Generator(np.random.Philox(key=derive(*parts)))


def epoch_order(n: int, start: int, count: int, *parts: object) -> list[int]:
    """Indices `start .. start+count` of an endless sequence of shuffled epochs over `n` items."""
    out: list[int] = []
    while len(out) < count:
        epoch, offset = divmod(start + len(out), n)
        order = rng(*parts, "epoch", epoch).permutation(n)
        out.extend(int(i) for i in order[offset : offset + count - len(out)])
    return out


def sample_seeds(picks: list[int], n: int, *parts: object) -> tuple[list[int], list[int]]:
    """(prompt of each row, seed of each row) for n samples of every prompt: one seed per (parts, prompt, sample)."""
    prompts = [p for p in picks for _ in range(n)]
    return prompts, [derive(*parts, j // n, p, j % n) for j, p in enumerate(prompts)]
