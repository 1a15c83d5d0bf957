"""docs/estimators.md: the tables and the remarks, every number from the production functions."""

from __future__ import annotations

from pathlib import Path

from tests.estimator_table import rows, traps
from tests.estimator_table.measure import CORRELATION, EACH, SCALES, STALE, K, Pairs, V, moments, stream
from tests.estimator_table.verdict import cells

PATH = Path(__file__).parents[2] / "docs" / "estimators.md"
TEMPLATE = Path(__file__).parent / "page.md"
HEAD = ("estimator", "who runs it", "optimises", "cosine RKL", "cosine FKL", "off RKL by", "at q = p", "variance", "teacher")
WIDTHS, SPREADS = (32, 8192), (2.0, 8.0, 32.0)


def table(head: tuple[str, ...], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def render() -> str:
    """The whole page."""
    pairs = Pairs.draw()
    vanilla = moments(stream(), pairs)
    group = lambda found: table(HEAD, [[r.label, r.who, *cells(r, pairs, vanilla)] for r in found])
    rounding = [[str(v), f"{s:g}", *traps.rounded(v, s)] for v in WIDTHS for s in SPREADS]
    figures = {
        "V": V,
        "K": K,
        "pairs": len(SCALES) * EACH,
        "correlation": CORRELATION,
        "stale": STALE,
        "sampled": group(rows.SAMPLED),
        "full": group(rows.FULL),
        "topk": group(rows.TOPK),
        "changed": group(rows.CHANGED),
        "off_policy": group(rows.OFF_POLICY),
        "references": table(
            ("tokens of the unused reference answer", "gradient, relative to the right one"),
            [[str(r), scale] for r, scale in traps.reference_count()],
        ),
        "rounding": table(("vocabulary", "spread of the logits", "error of the loss", "error of the gradient"), rounding),
        **traps.k3_clamp(pairs),
        **traps.clamped_topk(),
        **traps.drained(pairs),
        **traps.outside_teacher_topk(pairs),
        **traps.size_of_cut_teacher(pairs),
        **traps.zscored(pairs),
    }
    return TEMPLATE.read_text().format(**figures)
