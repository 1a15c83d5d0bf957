"""Bytes that a forward pass keeps for the backward one: what saved_tensors_hooks would count, without running it."""

from __future__ import annotations

from opd_steps.graph.cost.shape import Shape

_ADAPTED = {"float32": (16, 16, 8, 8), "mixed": (18, 8, 6, 4), "bfloat16": (28, 10, 8, 4)}
"""As Style.kept, with adapters on all layers of a block whose own weights are frozen: inputs are cast to fp32 for each of them."""
_RANK = {"float32": 4, "mixed": 2, "bfloat16": 4}  # bytes of what an adapter's first matrix makes, of each of its r
_STREAM = {"float32": 4, "mixed": 4, "bfloat16": 2}  # of a channel between blocks
_LAST = {"float32": 8, "mixed": 8, "bfloat16": 6}  # of a channel in the norm behind them
_QK_NORM = 4  # more of a channel of queries and keys, where adapters are around their projections


def block(shape: Shape, rows: int, length: int, mode: str, rank: int = 0, math: bool = False) -> int:
    """Of one block, for `rows` of `length` tokens. `rank`: of adapters on all layers; `math`: attention that keeps its [length, length]
    weights, as sdpa has it on a GPU for fp32 queries that share keys.
    """
    style = shape.style
    width, inner, query, key = style.kept[mode]
    if rank and style.gated and style.norms == 2:
        width, inner, query, key = _ADAPTED[mode]
        query, key = (x + _QK_NORM * style.qk_norm for x in (query, key))
    if shape.experts > 1:  # autocast leaves the product of all experts at once as it is
        inner = style.kept["float32" if mode == "mixed" else mode][1]
    queries, keys = shape.heads * shape.head, shape.kv * shape.head
    token = width * shape.width + inner * shape.inner * shape.active + query * queries + key * keys
    token += 4 * (shape.heads + style.norms + style.qk_norm * (shape.heads + shape.kv))  # fp32 figures of softmax and norms
    token += rank * _RANK[mode] * len(shape.matrices)
    if shape.experts > 1:
        token += shape.active * shape.width * 2 * _STREAM[mode] + 4 * shape.experts
    if math:
        token += 4 * queries + 4 * shape.heads * length
    return rows * length * token


def kept(
    shape: Shape, rows: int, length: int, mode: str, recompute: bool = False, rank: int = 0, math: bool = False
) -> tuple[int, int]:
    """(bytes after the forward pass, more bytes while a block is computed again)."""
    one = block(shape, rows, length, mode, rank, math)
    last = rows * length * (_LAST[mode] * shape.width + 4)
    if recompute:
        return shape.layers * rows * length * _STREAM[mode] * shape.width + last, one
    return shape.layers * one + last, 0
