"""Options that are written in several places, the later over the earlier; an error names the place that wrote what is wrong."""

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
    written   (place, options) by rising weight, e.g. (papers/x.yaml.scales.tiny.kinds.opd, {steps: 60})
    """

    where: str
    written: list[tuple[str, Any]]

    def merged(self) -> dict:
        """The options of all places. Raises UserError where a place holds something else."""
        for place, options in self.written:
            if not isinstance(options, dict):
                raise UserError(place, f"expected a mapping of options, found {shown(options)}")
        return reduce(deep_merge, (options for _, options in self.written), {})

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """A UserError about `where` becomes one about the place that wrote the key."""
        try:
            yield
        except UserError as error:
            if not error.place.startswith(self.where + "."):
                raise
            rest = error.place.removeprefix(self.where + ".")
            raise UserError(f"{self._writer(rest)}.{rest}", error.message) from None

    def _writer(self, path: str) -> str:
        """The last place that wrote the key or, of a key that nobody wrote, most of the way to it; else `where` itself."""
        depths = [(_depth(options, path), i) for i, (_, options) in enumerate(self.written)]
        depth, best = max(depths, default=(0, 0))
        return self.written[best][0] if depth else self.where


def _depth(options: Any, path: str) -> int:
    """How many steps of the path the options hold."""
    try:
        steps = parts(path)
    except ValueError:  # a key that is no name
        return int(path in options)
    for i, step in enumerate(steps):
        here = isinstance(options, dict) and step in options
        if not here and not (isinstance(options, list) and isinstance(step, int) and step < len(options)):
            return i
        options = options[step]
    return len(steps)
