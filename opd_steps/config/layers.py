"""Options that several places write: later places win, and an error names the place that wrote the mistake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

from opd_steps.config.merge import deep_merge
from opd_steps.config.option_paths import parts
from opd_steps.config.scalars import shown
from opd_steps.errors import UserError


@dataclass
class Layers:
    """where     what the checks call the options, e.g. papers/x.yaml.nodes.opd
    written   (place, options), those that win last, e.g. (papers/x.yaml.scales.tiny.kinds.opd, {steps: 60})
    """

    where: str
    written: list[tuple[str, Any]]

    def merged(self) -> dict:
        """The options of all places together. Raises UserError for a place that holds no options."""
        for place, options in self.written:
            if not isinstance(options, dict):
                raise UserError(place, f"expected a mapping of options, found {shown(options)}")
        return reduce(deep_merge, (options for _, options in self.written), {})

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Around checks: their UserErrors name the place that wrote the key, in front of the key."""
        try:
            yield
        except UserError as error:
            if not error.place.startswith(self.where + "."):
                raise
            rest = error.place.removeprefix(self.where + ".")
            raise UserError(f"{self._writer(rest)}.{rest}", error.message) from None

    def _writer(self, path: str) -> str:
        """The last place that wrote the key; where nobody did, the one that wrote most of the path to it; else `where`."""
        depths = [(_depth(options, path), i) for i, (_, options) in enumerate(self.written)]
        depth, best = max(depths, default=(0, 0))
        return self.written[best][0] if depth else self.where


def _depth(options: Any, path: str) -> int:
    """How many parts of the path exist in the options."""
    try:
        steps = parts(path)
    except ValueError:  # a key that is no path
        return int(path in options)
    for i, step in enumerate(steps):
        here = isinstance(options, dict) and step in options
        if not here and not (isinstance(options, list) and isinstance(step, int) and step < len(options)):
            return i
        options = options[step]
    return len(steps)
