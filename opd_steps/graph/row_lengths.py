"""What token rows the nodes of a paper will make of their data, and what these must fit in: plain data, known from the graph alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from opd_steps.config.needs import terms
from opd_steps.config.plugs import constant
from opd_steps.config.versions import versions
from opd_steps.graph.node import GraphNode
from opd_steps.graph.nodes import Graph
from opd_steps.graph.outline import root_model
from opd_steps.store.fingerprint import canonical


@dataclass(frozen=True)
class Rows:
    """Rows of one split, read by one node.

    node      the node that makes them
    data      folder below results/ of the data node
    tokens    folder of the model whose tokenizer writes them
    models    folders of all models that read them
    split     of the data; `limit`: its first rows alone, 0 = all
    column    text behind the prompt; "" = nothing, or what a policy says
    context   what stands in the prompt's place: canonical JSON of a plug of teachers/contexts; "" = the prompt itself
    answer    tokens that a policy may say behind the prompt
    caps      (option, tokens): an engine's max_model_len
    """

    node: str
    data: str
    tokens: str
    models: tuple[str, ...]
    split: str = "train"
    limit: int = 0
    column: str = ""
    context: str = ""
    answer: int = 0
    caps: tuple[tuple[str, int], ...] = ()


def rows(graph: Graph, paper: str, seed: int) -> list[Rows]:
    """Of all nodes of a paper, each once."""
    found = [row for node in graph.nodes.values() if node.paper == paper for row in _of(node, seed)]
    return list(dict.fromkeys(found))


def _of(node: GraphNode, seed: int) -> list[Rows]:
    p, o = node.parents, node.options
    there = lambda *roles: tuple(root_model(p[role]).path(seed) for role in roles if role in p)
    made = lambda *roles, **part: _made(node, seed, there(*roles), **part)
    if node.kind == "pretrain":
        return [made("model", column=o["column"])]
    if node.kind == "sft" and p["data"].kind == "data":
        return [made("student", column=o["column"])]
    if node.kind == "sft":
        return [_sampled(node, p["data"], seed, there("student"))]
    if node.kind == "score":
        return [_sampled(node, p["rollouts"], seed, there("teacher"), _caps(o, "teacher_engine"))]
    if node.kind in ("rl", "rollout"):
        part = {"split": o["split"], "limit": o["limit"]} if node.kind == "rollout" else {}
        return [made("policy", answer=o["sampling"]["max_new_tokens"], caps=_caps(o, "engine"), **part)]
    if node.kind == "opd" and "scores" in p:
        return [_sampled(node, p["scores"].parents["rollouts"], seed, there("student", "reference"))]
    if node.kind == "opd":
        return _of_opd(node, seed, there)
    if node.kind == "evaluate":
        most = o["options"].get("max_model_len") or o["options"].get("max_length")
        caps = (("options.max_model_len", most),) if o["backend"] == "vllm" and isinstance(most, int) else ()
        part = {"limit": o["limit"], "answer": o["max_new_tokens"], "caps": caps}
        return [made("model", "teacher", split=split, **part) for split in o["splits"]]
    if node.kind == "analyze" and "data" in p:
        return [made("model", "other", "peer", "teacher", split=o["split"], limit=o["limit"], answer=o["max_new_tokens"])]
    return []


def _made(node: GraphNode, seed: int, models: tuple[str, ...], **part) -> Rows:
    """Rows of the node's own data, in the tokens of the first of `models`."""
    return Rows(node.name, node.parents["data"].path(seed), models[0], models, **part)


def _of_opd(node: GraphNode, seed: int, there) -> list[Rows]:
    """Prompts and samples at their longest, under every version of the options; solutions where a term looks at them."""
    o = node.options
    respelled = constant("teachers/sources", o["teacher_source"]["name"], "OTHER_TOKENIZER")
    readers = there("student", "reference") if respelled else there("student", "teacher", "reference")
    answer = max(version["sampling"]["max_new_tokens"] for version in versions(o))
    caps = _caps(o, "engine") + (() if respelled else _caps(o, "teacher_engine"))
    found = [_made(node, seed, readers, answer=answer, caps=caps)]
    if respelled:  # the teacher's own tokens: how many an answer makes of them nobody knows yet
        found.append(_made(node, seed, there("teacher")))
    name = o["context"]["name"]
    if constant("teachers/contexts", name, "HINTS") and not constant("teachers/contexts", name, "GROUP"):
        shown = replace(found[0], models=there("teacher"), caps=_caps(o, "teacher_engine"), context=canonical(o["context"]))
        found.append(shown)  # one that shows samples is as long as these turn out to be
    methods = [version["method"] for version in versions(o)]
    sources = {source for m in methods for source in (m["prefix"]["source"], *(term["rows"] for term in terms(m)))}
    if sources & {"dataset", "mixture"}:
        found.append(replace(found[0], answer=0, caps=(), column=o["method"]["prefix"]["column"]))
    return found


def _sampled(node: GraphNode, rollout: GraphNode, seed: int, models: tuple[str, ...], caps=()) -> Rows:
    """The rows of a rollout node, read by others."""
    o, p = rollout.options, rollout.parents
    part = {"split": o["split"], "limit": o["limit"], "answer": o["sampling"]["max_new_tokens"], "caps": caps}
    return Rows(node.name, p["data"].path(seed), root_model(p["policy"]).path(seed), models, **part)


def _caps(options: dict, role: str) -> tuple[tuple[str, int], ...]:
    engine = options[role]
    return (
        ((f"{role}.max_model_len", engine["max_model_len"]),) if engine["name"] != "local" and engine["max_model_len"] else ()
    )
