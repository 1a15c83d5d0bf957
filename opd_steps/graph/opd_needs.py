"""What an opd node will ask of tokens: the rows that it makes, and the k of its top-ks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from opd_steps.config.needs import terms
from opd_steps.config.plugs import constant
from opd_steps.config.teachers import learners, named, starts, text_columns
from opd_steps.config.versions import versions
from opd_steps.graph.debates import debates
from opd_steps.graph.row_lengths import Rows, caps, folders, made, sampled
from opd_steps.store.fingerprint import canonical

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def rows(node: GraphNode, seed: int) -> list[Rows]:
    """Prompts and samples at their longest, under every version of the options; solutions where a term looks at them."""
    o, teachings = node.options, named(node.options, node.parents).values()
    if table := next((t.scores for t in teachings if t.scores), ""):
        return [sampled(node, table, seed, "student", *(t.model for t in teachings if t.model))]
    respelled = [t for t in teachings if constant("teachers/sources", t.weights["name"], "OTHER_TOKENIZER")]
    plain = [t for t in teachings if t.model and t not in respelled]
    answer = max(version["sampling"]["max_new_tokens"] for version in versions(o))
    bounds = caps(o["engine"], "engine") + tuple(cap for t in plain for cap in caps(t.engine, t.engine_key))
    readers = [*starts(o).values(), *(t.model for t in plain)]
    found = [made(node, seed, *readers, answer=answer, caps=bounds)]
    # a teacher's own tokens: how many an answer makes of them nobody knows yet
    found += [made(node, seed, t.model) for t in respelled]
    for t in teachings:
        has = lambda attribute, name=t.context["name"]: constant("teachers/contexts", name, attribute)
        if has("HINTS") and not has("GROUP"):  # one that shows samples is as long as these turn out to be
            shown = {"models": folders(node, seed, t.model), "caps": caps(t.engine, t.engine_key)}
            found.append(replace(found[0], context=canonical(t.context), **shown))
        if "expert" in t.context:
            shown = {"models": folders(node, seed, t.model), "caps": caps(t.engine, t.engine_key)}
            found.append(replace(found[0], shown=debates(node)[1], **shown))
    if "texts" in node.parents:
        return [*found, sampled(node, "texts", seed, *readers)]
    return found + [replace(found[0], answer=0, caps=(), column=column) for column in dict.fromkeys(text_columns(o))]


def topk(options: dict) -> list[tuple[str, int]]:
    """(option, k) of all versions of the options."""
    found: dict[str, list] = {}
    for version in versions(options):
        for name, method in learners(version):
            for key, k in of_method(method, f"learners.{name}.method" if name else "method"):
                found.setdefault(key, []).append(k)
    return [(key, k) for key, ks in found.items() for k in dict.fromkeys(ks)]


def of_method(method: dict, where: str) -> list[tuple[str, int]]:
    """(option, k) of a method whose options stand at `where`."""
    found = []
    for i, row in enumerate(terms(method)):
        at = where + (f".add[{i - 1}]" if i else "")
        items = [(f"{at}.{slot}", row[slot]) for slot in ("support", "baseline")]
        items += [(f"{at}.{slot}[{j}]", item) for slot in ("transform", "weight", "where") for j, item in enumerate(row[slot])]
        found += [(f"{key}.k", item["k"]) for key, item in items if "k" in item and item.get("support") != "full"]
    return found
