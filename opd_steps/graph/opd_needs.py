"""What an opd node will ask of tokens: the rows that it makes, and the k of its top-ks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from opd_steps.config.needs import terms
from opd_steps.config.plugs import constant
from opd_steps.config.versions import versions
from opd_steps.graph.row_lengths import Rows, caps, folders, made, sampled
from opd_steps.store.fingerprint import canonical

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def rows(node: GraphNode, seed: int) -> list[Rows]:
    """Prompts and samples at their longest, under every version of the options; solutions where a term looks at them."""
    if "scores" in node.parents:
        return [sampled(node, "scores", seed, "student", "reference")]
    o = node.options
    respelled = constant("teachers/sources", o["teacher_source"]["name"], "OTHER_TOKENIZER")
    readers = ("student", "reference") if respelled else ("student", "teacher", "reference")
    answer = max(version["sampling"]["max_new_tokens"] for version in versions(o))
    bounds = caps(o, "engine") + (() if respelled else caps(o, "teacher_engine"))
    found = [made(node, seed, *readers, answer=answer, caps=bounds)]
    if respelled:  # the teacher's own tokens: how many an answer makes of them nobody knows yet
        found.append(made(node, seed, "teacher"))
    name = o["context"]["name"]
    if constant("teachers/contexts", name, "HINTS") and not constant("teachers/contexts", name, "GROUP"):
        teacher = {"models": folders(node, seed, "teacher"), "caps": caps(o, "teacher_engine")}
        found.append(replace(found[0], context=canonical(o["context"]), **teacher))
        # one that shows samples is as long as these turn out to be
    methods = [version["method"] for version in versions(o)]
    sources = {source for m in methods for source in (m["prefix"]["source"], *(term["rows"] for term in terms(m)))}
    if sources & {"dataset", "mixture"}:
        found.append(replace(found[0], answer=0, caps=(), column=o["method"]["prefix"]["column"]))
    return found


def topk(options: dict) -> list[tuple[str, int]]:
    """(option, k) of all versions of the options."""
    found: dict[str, list] = {}
    for version in versions(options):
        for key, k in _of_method(version["method"]):
            found.setdefault(key, []).append(k)
    return [(key, k) for key, ks in found.items() for k in dict.fromkeys(ks)]


def _of_method(method: dict) -> list[tuple[str, int]]:
    found = []
    for i, row in enumerate(terms(method)):
        at = "method" + (f".add[{i - 1}]" if i else "")
        items = [(f"{at}.{slot}", row[slot]) for slot in ("support", "baseline")]
        items += [(f"{at}.{slot}[{j}]", item) for slot in ("transform", "weight") for j, item in enumerate(row[slot])]
        found += [(f"{key}.k", item["k"]) for key, item in items if "k" in item and item.get("support") != "full"]
    return found
