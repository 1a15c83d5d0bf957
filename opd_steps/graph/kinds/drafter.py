"""Drafters of language models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from opd_steps.config.plugs import plug
from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import ref


@dataclass
class DrafterNode(Node):
    """A drafter of a target, with fresh weights: what speculative decoding asks first (EAGLE-3, arXiv 2503.01840)."""

    PRODUCES: ClassVar[str] = "model"
    PHASE: ClassVar[str] = "students"
    PLACE: ClassVar[int] = 47
    START: ClassVar[str] = "target"

    target: str = ref("model")
    family: Any = plug("models/families", "drafter")  # which kind of drafter it is
