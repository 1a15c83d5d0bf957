from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import ratio
from opd_steps.analyses._weights import module_of, paired_weights


@dataclass(frozen=True)
class Direction(Analysis):
    """Do two models move the same way from one start? Cosines of d = W_model - W and e = W_peer - W, W of `other` (arXiv 2605.11739).

    cosine               <d, e> / (||d|| ||e||) over all parameters that are matrices
    matrix_mean          mean over matrices of their own cosines
    <module>             the same mean over the matrices of one module type
    length_ratio         ||d|| / ||e||

    A matrix that stood still in one of the two has no cosine and is left out of the means. The claim of the paper has a
    checkpoint at 10 % of training as `model` and the last one as `peer`.
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("other", "peer")
    METRICS: ClassVar[tuple[str, ...]] = (
        "direction/cosine",
        "direction/matrix_mean",
        "direction/attention",
        "direction/mlp",
        "direction/embedding",
        "direction/length_ratio",
    )

    def measure(self, ctx: Context) -> dict[str, float | None]:
        start = ctx.policies["other"].model
        ours, theirs = (paired_weights(ctx.policies[role].model, start) for role in ("model", "peer"))
        total = [0.0, 0.0, 0.0]
        by_module: dict[str, list[float]] = {}
        for (name, w, now), (_, _, peer) in zip(ours, theirs, strict=True):
            if w.dim() > 1:
                d, e = now - w, peer - w
                parts = [float((a.double() * b.double()).sum()) for a, b in ((d, e), (d, d), (e, e))]
                total = [a + b for a, b in zip(total, parts, strict=True)]
                if parts[1] and parts[2]:
                    by_module.setdefault(module_of(name), []).append(_cosine(*parts))
        found = {"cosine": _cosine(*total), "matrix_mean": _mean([c for found in by_module.values() for c in found])}
        found |= {kind: _mean(by_module.get(kind, [])) for kind in ("attention", "mlp", "embedding")}
        found["length_ratio"] = math.sqrt(total[1] / total[2]) if total[2] else None
        return {f"direction/{name}": value for name, value in found.items()}


def _cosine(inner: float, square: float, other: float) -> float | None:
    return ratio(inner, math.sqrt(square * other))


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
