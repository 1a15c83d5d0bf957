"""From moments to the cells of a row."""

from __future__ import annotations

from torch import Tensor

from opd_steps.config.asks import NOTHING
from opd_steps.objectives.stream import Stream
from tests.estimator_table.measure import ZERO, Moments, Pairs, cosine, moments, norm, relative_gap, stream
from tests.estimator_table.rows import Row


def median(value_P: Tensor) -> float:
    return float(value_P.quantile(0.5))


def optimises(row: Row, mean_PV: Tensor, pairs: Pairs) -> str:
    """Whose gradient the expected gradient is, in every pair to a relative error of 1e-9."""
    if (norm(mean_PV) < ZERO * norm(pairs.rkl_PV)).all():
        return "**0**"
    targets = {"RKL": pairs.rkl_PV, "FKL": pairs.fkl_PV}
    signal = row.options.get("signal", "log_ratio")
    name = signal if isinstance(signal, str) else signal["name"]
    if name not in ("log_ratio", "rkl", "fkl", "power"):
        targets[f"its own: {name}"] = moments(stream(estimator="exact", support="full", signal=signal), pairs).mean_PV
    for target, gradient_PV in targets.items():
        if (relative_gap(mean_PV, gradient_PV) < ZERO).all():
            return target
    return "neither"


def number(value: float) -> str:
    """Two decimals, or three digits; 0 only for what is 0."""
    if abs(value) < ZERO:
        return "0"
    text = f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:.0e}".replace("e-0", "e-") if text in ("0.00", "-0.00") else text.replace("0.", ".", 1)


def cosines(mean_PV: Tensor, target_PV: Tensor) -> str:
    value_P = cosine(mean_PV, target_PV)
    return "1" if float(value_P.min()) > 1 - ZERO else f"{number(median(value_P))} ({number(float(value_P.min()))})"


def at_agreement(found: Moments) -> str:
    """The expected gradient where the student is the teacher already, and whether single samples still move it."""
    if float(norm(found.mean_PV).max()) > ZERO:
        return f"**{number(median(norm(found.mean_PV)))}**"
    return "0, noisy" if float(found.noise_P.max()) > ZERO else "0"


def variance(found: Moments, vanilla: Moments) -> str:
    ratio_P = found.variance_P / vanilla.variance_P
    if float(ratio_P.max()) < ZERO:
        return "0"
    return f"{number(median(ratio_P))} ({(ratio_P > 1 + ZERO).double().mean():.0%})"


def cells(row: Row, pairs: Pairs, vanilla: Moments) -> list[str]:
    """Optimises, cosine with RKL, cosine with FKL, bias, at q = p, variance, teacher."""
    term = stream(**row.options)
    found, agreed = moments(term, pairs, row.stale), moments(term, pairs.agreed(), row.stale)
    whose, gap_P = optimises(row, found.mean_PV, pairs), relative_gap(found.mean_PV, pairs.rkl_PV)
    toward = ["-", "-"] if whose == "**0**" else [cosines(found.mean_PV, t) for t in (pairs.rkl_PV, pairs.fkl_PV)]
    bias = "0" if whose == "RKL" else number(median(gap_P))
    return [whose, *toward, bias, at_agreement(agreed), variance(found, vanilla), asked(term)]


def asked(term: Stream) -> str:
    """What it asks of its teacher, the most that it does, in a word."""
    asks = term.asks.get("teacher", NOTHING)
    return "full" if asks.full else "top-k" if asks.topk else "sampled" if asks.sampled else "none"


def share(flag_P: Tensor) -> str:
    return f"{int(flag_P.sum())} of {len(flag_P)}"
