"""What an opd node does with models: its learners, the teachers that somebody asks, and whose samples it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.needs import GROUPS, blind, terms
from opd_steps.config.needs import asks as asks_of
from opd_steps.config.plugs import constants
from opd_steps.config.teachers import SOURCES, Teaching, asked, learners, named, samplers, sources, starts
from opd_steps.config.versions import versions
from opd_steps.graph.cost.work import SAMPLED, Held, Read, Served, Work, adapts, by_engine

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_LEAN = ("log_ratio", "rkl", "fkl")  # divergences whose slope is made of few tensors
_FULL_LEAN, _FULL = 6, 12  # tensors [decisions, vocabulary] of a divergence over all tokens (tests/unit/test_cost_head.py)
_WIDE = ("transform", "weight")


def distilled(node: GraphNode) -> Work:
    o = node.options
    teachings = named(o, node.parents)
    wanted = [teachings[name] for name in asked(o, teachings) if name in teachings]
    methods = [method for version in versions(o) for _, method in learners(version)]
    rows, cached = o["prompts"] * o["sampling"]["n"], any(t.scores for t in wanted)
    made = [source for method in methods for source in sources(method)]
    work = Work(
        trains=tuple(starts(o).values()),
        still=_still(node, wanted, {name for source in made for name in samplers(source)}),
        served=tuple(_served(t, o) for t in wanted if _elsewhere(t) and not t.engine.get("url")),
        read=Read(o["micro_batch"], rows // o["minibatches"], max(map(tensors, methods)), survey=any(map(surveys, methods))),
        steps=o["steps"],
        **({} if cached else {"drawn": rows, "prompts": o["prompts"]}),
    )
    writes = any(constants("prefixes", source["name"])["OWN"] for source in made)
    return by_engine(node, "student", work) if writes and not cached else work


def _elsewhere(t: Teaching) -> bool:
    return bool(t.model) and t.engine["name"] != "local"


def _served(t: Teaching, options: dict) -> Served:
    return Served(t.model, t.engine_key, t.engine, t.engine["dtype"] or t.dtype or options["dtype"])


def _still(node: GraphNode, wanted: list[Teaching], sampling: set[str]) -> tuple[Held, ...]:
    """As steps/_teachers.py loads them: each once, unless its weights move; none where a learner's adapter can be set aside."""
    o, found = node.options, {}
    begun = {(node.parents[role].key, node.parts[role]) for role in starts(o).values()} if adapts(o) else set()
    for t in wanted:
        source = constants(SOURCES, t.weights["name"])
        if not t.model or t.scores or _elsewhere(t) or source["MODEL"] != "node":
            continue
        who, dtype = (node.parents[t.model].key, node.parts[t.model]), t.dtype or o["dtype"]
        if source["MOVES"]:
            found[t.name] = Held(t.model, "float32")
        elif who not in begun or t.name in sampling or dtype != o["dtype"]:
            found[who, dtype] = Held(t.model, dtype)
    return tuple(found.values())


def tensors(method: dict) -> int:
    """How many tensors [decisions, vocabulary] a method's terms hold together, 0 where they look at no probability."""
    each = [_of_term(row) for row in terms(method)]
    return max(0, *each, 3 + sum(n - 3 for n in each if n))  # the student's own are there once


def _of_term(row: dict) -> int:
    if blind(row):
        return 0
    if not any(asks.full for asks in asks_of(row).values()):
        return SAMPLED
    estimator = constants(GROUPS["estimator"], row["estimator"]["name"])
    return _FULL_LEAN if estimator["SIGNAL"] != "divergence" or row["signal"]["name"] in _LEAN else _FULL


def surveys(method: dict) -> bool:
    """Whether a part of it measures all decisions before any is learned from."""
    plugs = [
        (slot, constants(GROUPS[slot], item["name"]))
        for row in terms(method)
        for slot in (*_WIDE, "where")
        for item in row[slot]
    ]
    return any(plug["SURVEY"] and (plug["WIDE"] or slot == "where") for slot, plug in plugs)
