"""How long a process waited for others, by what for: things that went on at the same time count as such. For timing.json."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Spans:
    """`seconds`: wall seconds by what was going on, names in their order with + between: {"sample": 3.1, "sample+score": 1.2}."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._lock, self._since = threading.Lock(), 0.0

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """From any thread, as many at once as one likes."""
        self._change(name, 1)
        try:
            yield
        finally:
            self._change(name, -1)

    def _change(self, name: str, by: int) -> None:
        with self._lock:
            now = time.monotonic()
            if going := "+".join(sorted(+self._open)):
                self.seconds[going] += now - self._since
            self._open[name] += by
            self._since = now


engines = Spans()
"""Of this process: rows that engines sample, and score."""
