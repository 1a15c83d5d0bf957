"""What a method asks of a model at every decision point: a set, so that one forward pass answers all who ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opd_steps.config.plugs import constants


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


NOTHING = Asks()


def of_word(word: str, options: dict) -> Asks:
    """As a plug's constant says it: none, sampled, topk (as many as its option `k`), full, hidden (its option `layers`)."""
    if word == "topk":
        return Asks(sampled=True, topk=options["k"])
    if word == "hidden":
        return Asks(hidden=frozenset(options["layers"]))
    return {"sampled": Asks(sampled=True), "full": Asks(full=True)}.get(word, NOTHING)


def of_plug(group: str, options: dict, own: str) -> dict[str, Asks]:
    """What a plug asks of whom: of the teacher `own` that its term is against, and of those that its options name."""
    known = constants(group, options["name"])
    word = known.get("TEACHER", "none")
    found = {own: of_word(word, options)}
    if word == "hidden":
        found["student"] = Asks(hidden=frozenset(options.get("student_layers", options["layers"])))
    return union([found, *others(group, options)])


def others(group: str, options: dict) -> list[dict[str, Asks]]:
    """What a plug asks of the teachers that its options name."""
    asked = constants(group, options["name"])["OTHERS"]
    return [dict.fromkeys(names(options[option]), of_word(word, options)) for option, word in asked.items()]


def names(value: Any) -> list[str]:
    """The teachers that an option names."""
    if isinstance(value, dict):
        return [str(name) for name in value.values()]
    return [str(name) for name in value] if isinstance(value, list) else [str(value)] if value else []


def union(parts: list[dict[str, Asks]]) -> dict[str, Asks]:
    """Whom all of them ask for what; those of whom nothing is asked are left out."""
    found: dict[str, Asks] = {}
    for part in parts:
        for whom, asks in part.items():
            found[whom] = found.get(whom, NOTHING) | asks
    return {whom: asks for whom, asks in found.items() if asks}
