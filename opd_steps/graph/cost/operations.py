"""Floating point operations of a language model's passes, by its shape (PaLM, arXiv 2204.02311, appendix B): a product and a sum are two.

What is computed twice to save memory counts once; norms, softmax, positions and the look-up of embeddings are left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from opd_steps.graph.cost.shape import Shape


def products(shape: Shape, tokens: float, decisions: float) -> float:
    """Forward, with weights: 2 for each that one of the tokens goes through; the head's at decisions alone."""
    return 2 * ((shape.used - shape.table) * tokens + shape.table * decisions)


def attention(shape: Shape, reach: float) -> float:
    """Forward, of a token to `reach` tokens: 4 L H Q for each, of queries with keys and of weights with values."""
    return 4 * shape.layers * shape.heads * shape.head * reach


def passes(
    shape: Shape, lengths: Iterable[int], decisions: int, gradient: bool = False, frozen: bool = False, head: bool = True
) -> float:
    """Of rows of so many tokens, T each: 2 N + 4 L H Q T a token forward, 6 N + 12 L H Q T with gradient.

    N: weights of its products. Attention is to the whole row, as PaLM has it, though causal kernels do half of it. `frozen`: weights have
    no gradient of their own, adapters beside them do: 4 N; adapters are left out. `head`: whether it is computed.
    """
    lengths = list(lengths)
    of_weights, of_attention = (2 if frozen else 3, 3) if gradient else (1, 1)
    found = of_weights * products(shape, sum(lengths), decisions if head else 0)
    return found + of_attention * sum(length * attention(shape, length) for length in lengths)
