"""What a method asks of a model at every decision point: a set, so that one forward pass answers all who ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asks:
    """A set; `a | b` is what answers both.

    sampled   the log-prob of the action that was taken
    topk      so many of the likeliest actions with their log-probs; 0: none
    full      the whole distribution, which holds the two above
    hidden    layers whose hidden states are wanted, as transformers counts them (0: the embedding)
    """

    sampled: bool = False
    topk: int = 0
    full: bool = False
    hidden: frozenset[int] = frozenset()

    def __or__(self, other: Asks) -> Asks:
        return Asks(
            self.sampled or other.sampled, max(self.topk, other.topk), self.full or other.full, self.hidden | other.hidden
        )

    def __bool__(self) -> bool:
        return self != Asks()

    @property
    def beyond_action(self) -> bool:
        """Whether more is wanted than a log-prob of the sampled action."""
        return bool(self.topk or self.full or self.hidden)

    @property
    def hidden_alone(self) -> bool:
        """Whether hidden states are all that is wanted."""
        return bool(self.hidden) and self == Asks(hidden=self.hidden)


NOTHING = Asks()


def union(parts: list[dict[str, Asks]]) -> dict[str, Asks]:
    """Whom all of them ask for what; those of whom nothing is asked are left out."""
    found: dict[str, Asks] = {}
    for part in parts:
        for whom, asks in part.items():
            found[whom] = found.get(whom, NOTHING) | asks
    return {whom: asks for whom, asks in found.items() if asks}
