"""The kinds of nodes, one file each: found by looking into this folder, in the order of the pipeline."""

from __future__ import annotations

import importlib
from pathlib import Path

from opd_steps.graph.kinds._kind import Node


def _kind(name: str) -> type[Node]:
    """The one Node that a file defines."""
    module = importlib.import_module(f"{__name__}.{name}")
    found = [
        c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Node) and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__file__}: a kind's file holds exactly one Node, found {len(found)}")
    return found[0]


_FOUND = {p.stem: _kind(p.stem) for p in sorted(Path(__file__).parent.glob("*.py")) if not p.stem.startswith("_")}
KINDS: dict[str, type[Node]] = dict(sorted(_FOUND.items(), key=lambda item: item[1].PLACE))
