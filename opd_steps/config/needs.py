"""What rows of plugs need, told from the plugs' constants without importing them; their groups' Protocols say what these mean."""

from __future__ import annotations

from typing import Any

from opd_steps.config.asks import NOTHING, Asks, union
from opd_steps.config.plugs import constant, constants

_LISTS = ("transform", "weight", "where")
_SLOTS = ("support", "signal", "estimator", "baseline", "target", "transform", "weight")
GROUPS = {slot: f"objectives/{slot}s" for slot in _SLOTS} | {"where": "objectives/where"}


def terms(method: dict) -> list[dict]:
    """The rows of a method: its own, then those of `add`."""
    return [method, *method.get("add", [])]


def label(rows: dict | None) -> str:
    """How rows of a source are told from others in a batch: "" the method's own, else the source's name, and its options if any."""
    if rows is None:
        return ""
    more = ", ".join(f"{key} {value}" for key, value in rows.items() if key != "name")
    return rows["name"] + (f" ({more})" if more else "")


def _constant(options: dict, slot: str, attribute: str) -> Any:
    return constant(GROUPS[slot], options[slot]["name"], attribute)


def _core_need(options: dict) -> str:
    """What the signal needs on its support, where signal and estimator look at one."""
    if _constant(options, "signal", "KIND") == "observed" or _constant(options, "estimator", "TEACHER") in ("none", "hidden"):
        return "none"
    return _constant(options, "support", "TEACHER")


def _listed(options: dict, attribute: str) -> list:
    return [constant(GROUPS[slot], item["name"], attribute) for slot in _LISTS for item in options[slot]]


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
        found["student"] = Asks(hidden=frozenset(i for i, _ in layer_pairs(options)))
    return union([found, *others(group, options)])


def layer_pairs(options: dict) -> list[tuple[int, int]]:
    """(the student's layer, the teacher's) that a plug which asks for hidden states holds side by side."""
    return list(zip(options.get("student_layers") or options["layers"], options["layers"], strict=True))


def blind(options: dict) -> bool:
    """Whether the stream looks at the student's hidden states alone, never at its probabilities: then nobody runs its head."""
    if _constant(options, "estimator", "TEACHER") != "hidden":
        return False
    plugs = [constants(GROUPS[slot], item["name"]) for slot in _LISTS for item in options[slot]]
    return all(plug["WIDE"] and not plug["SURVEY"] for plug in plugs)


def others(group: str, options: dict) -> list[dict[str, Asks]]:
    """What a plug asks of the teachers that its options name."""
    asked = constants(group, options["name"])["OTHERS"]
    return [dict.fromkeys(names(options[option]), of_word(word, options)) for option, word in asked.items()]


def names(value: Any) -> list[str]:
    """The teachers that an option names."""
    if isinstance(value, dict):
        return [str(name) for name in value.values()]
    return [str(name) for name in value] if isinstance(value, list) else [str(value)] if value else []


def asks(options: dict) -> dict[str, Asks]:
    """What a term asks of whom at each decision point: of the teacher that it is `against`, and of others by their names.

    "sampler", the policy that made the rollouts, is nobody's model: what it knows stands in the rows.
    """
    own = options["against"]
    parts = [{own: of_word(_core_need(options), options["support"])}]
    parts += [of_plug(GROUPS[slot], options[slot], own) for slot in ("signal", "estimator", "baseline", "target")]
    parts += [of_plug(GROUPS[slot], item, own) for slot in _LISTS for item in options[slot]]
    if looks_beyond(options):  # at what is asked of the teacher
        plain = _core_need(options) == "sampled" and not union(parts).get(own, NOTHING).beyond_action
        parts.append({"reference": of_word("sampled" if plain else "full", {})})
    return union(parts)


def looks_beyond(options: dict) -> bool:
    """Whether the target looks at the node's reference."""
    target, neutral = options["target"], _constant(options, "target", "NEUTRAL")
    return _constant(options, "target", "REFERENCE") and not (
        neutral and all(target[name] == neutral[name] for name in neutral)
    )


def outcome_need(options: dict) -> bool:
    """Whether a part of the stream needs outcome advantages."""
    return _constant(options, "signal", "OUTCOME") or any(_listed(options, "OUTCOME"))


def wide_plugs(options: dict) -> list[str]:
    """Names of the parts that look at the whole batch."""
    return [item["name"] for slot in _LISTS for item in options[slot] if constant(GROUPS[slot], item["name"], "WIDE")]


def rows_need(options: dict) -> str:
    """What the stream must know of its rows: none, sampled (by a policy, and judged) or groups (several of each prompt)."""
    asked = _listed(options, "ROWS")
    asked += ["sampled"] if options["against"] == "sampler" or options["estimator"].get("ratio") == "sampler" else []
    asked += ["groups"] if outcome_need(options) else []
    return max(asked, default="none", key=("none", "sampled", "groups").index)
