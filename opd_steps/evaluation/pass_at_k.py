"""Pass@k without bias, from n samples of which c are correct."""

from __future__ import annotations

from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that at least one of k samples drawn without replacement from the n is correct (arXiv 2107.03374).

    pass@k = 1 - C(n - c, k) / C(n, k), with exact binomials; 1 when n - c < k.
    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    return 1.0 - comb(n - c, k) / comb(n, k)


def pass_at_k_table(counts: list[int], n: int) -> dict[str, float]:
    """Mean pass@k over prompts with `counts` correct of n, for k = 1, 2, 4, ... and n."""
    ks = [2**i for i in range(n.bit_length()) if 2**i < n] + [n]
    return {str(k): sum(pass_at_k(n, c, k) for c in counts) / len(counts) for k in ks}
