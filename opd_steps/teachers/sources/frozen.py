from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Frozen:
    """The teacher node's weights, for ever."""

    def teacher(self, policy, pool):
        return policy

    def hook(self, policy) -> None:
        return None
