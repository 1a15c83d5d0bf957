"""Model FLOPs: what this process's passes over rows take by their formulas (graph.cost.operations). For the log and timing.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

UNKNOWN = ""
done: Counter[str] = Counter()
"""By the dtype that they are computed in; under UNKNOWN the number of passes that no formula is known for."""


@contextmanager
def of_learner(counts: bool) -> Iterator[None]:
    """Around a learner's pass: one that nobody counted is UNKNOWN. `counts`: whether rows go through it for the only time."""
    before = done.copy()
    yield
    if not counts:
        done.clear()
        done.update(before)
    elif done == before:
        done[UNKNOWN] += 1
