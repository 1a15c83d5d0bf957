from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import ratio
from opd_steps.analyses._weights import matrices, module_of, paired_weights

RELATIVE, ABSOLUTE = ("1e-4", "1e-3", "1e-2"), ("1e-8", "1e-6", "1e-5")


@dataclass(frozen=True)
class Update(Analysis):
    """How much moved, where, and in how many directions: d = W_model - W, W the weights of `other` (arXiv 2606.13657, 2605.11739).

    norm, relative_norm    ||d||_F over all parameters, and divided by ||W||_F
    sparsity_rel<t>        share of coordinates with |d| <= t |W|
    sparsity_abs<t>        share of coordinates with |d| <= t
    bf16_sparsity_*        the same of the two checkpoints as bfloat16 holds them: there, small updates are lost in rounding
    share_<module>         share of ||d||_F^2 by module type
    stable_rank            ||d||_F^2 / ||d||_2^2
    effective_rank         exp of the entropy of the singular values divided by their sum
    top1_share             ||d_k||_F / ||d||_F, d_k: the largest 1 % of the singular directions, at least one
    smallest_overlap       |A & B| / |A|, A: the `ratio` of the coordinates that moved most, B: as many with the smallest |W|;
                           `ratio` by chance

    The last four are means over matrices: the first three weighted by ||d||_F^2, so that what stood still does not count,
    smallest_overlap by number of coordinates. Without any update they and the shares are not defined.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("other",)
    METRICS: ClassVar[tuple[str, ...]] = (
        "update/norm",
        "update/relative_norm",
        "update/sparsity_rel1e-4",
        "update/sparsity_rel1e-3",
        "update/sparsity_rel1e-2",
        "update/sparsity_abs1e-8",
        "update/sparsity_abs1e-6",
        "update/sparsity_abs1e-5",
        "update/bf16_sparsity_rel1e-4",
        "update/bf16_sparsity_rel1e-3",
        "update/bf16_sparsity_rel1e-2",
        "update/bf16_sparsity_abs1e-8",
        "update/bf16_sparsity_abs1e-6",
        "update/bf16_sparsity_abs1e-5",
        "update/share_attention",
        "update/share_mlp",
        "update/share_embedding",
        "update/share_norm",
        "update/share_rest",
        "update/stable_rank",
        "update/effective_rank",
        "update/top1_share",
        "update/smallest_overlap",
    )

    ratio: Annotated[float, "above 0, at most 1"] = 0.1  # of the coordinates of a matrix, in either mask

    def measure(self, ctx: Context) -> dict[str, float | None]:
        still, squares, spectra = Counter(), Counter(), Counter()
        count = weight_square = overlap = entries = 0.0
        for name, w, now in paired_weights(ctx.policies["model"].model, ctx.policies["other"].model):
            d = now - w
            count += d.numel()
            still += _still(w, now, "") + _still(w.bfloat16().float(), now.bfloat16().float(), "bf16_")
            squares[module_of(name)] += _square(d)
            weight_square += _square(w)
            for w_MN, d_MN in zip(matrices(w), matrices(d), strict=True):
                if square := _square(d_MN):
                    spectra += Counter({key: square * value for key, value in spectrum(d_MN).items()})
                    spectra["square"] += square
                    overlap += d_MN.numel() * smallest_overlap(w_MN, d_MN, self.ratio)
                    entries += d_MN.numel()
        total = sum(squares.values())
        found = {"norm": math.sqrt(total), "relative_norm": ratio(math.sqrt(total), math.sqrt(weight_square))}
        found |= {name: still[name] / count for name in (n.removeprefix("update/") for n in self.METRICS) if "sparsity" in name}
        found |= {f"share_{kind}": ratio(squares[kind], total) for kind in ("attention", "mlp", "embedding", "norm", "rest")}
        found |= {name: ratio(spectra[name], spectra["square"]) for name in ("stable_rank", "effective_rank", "top1_share")}
        return {f"update/{name}": value for name, value in (found | {"smallest_overlap": ratio(overlap, entries)}).items()}


def spectrum(d_MN: Tensor) -> dict[str, float]:
    """stable_rank, effective_rank and top1_share of one matrix that is not zero."""
    s_K = torch.linalg.svdvals(d_MN).double()
    square_K, share_K = s_K.square(), s_K / s_K.sum()
    return {
        "stable_rank": float(square_K.sum() / square_K[0]),
        "effective_rank": float(torch.special.entr(share_K).sum().exp()),
        "top1_share": float((square_K[: max(1, len(s_K) // 100)].sum() / square_K.sum()).sqrt()),
    }


def smallest_overlap(w: Tensor, d: Tensor, ratio: float) -> float:
    """Share of the most moved coordinates that are among the smallest weights; both sets hold `ratio` of all, at least one."""
    size = max(1, round(ratio * w.numel()))
    moved, small = d.abs().flatten().topk(size).indices, w.abs().flatten().topk(size, largest=False).indices
    return float(torch.isin(moved, small).double().mean())


def _still(w: Tensor, now: Tensor, prefix: str) -> Counter:
    """Number of coordinates within each threshold."""
    size, moved = w.abs(), (now - w).abs()
    found = {f"{prefix}sparsity_rel{t}": int((moved <= float(t) * size).sum()) for t in RELATIVE}
    return Counter(found | {f"{prefix}sparsity_abs{t}": int((moved <= float(t)).sum()) for t in ABSOLUTE})


def _square(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())
