"""Preflight: models that will be compared token by token must speak one token language, with enough tokens for a top-k."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from opd_steps.errors import UserError
from opd_steps.graph import outline
from opd_steps.graph.nodes import Graph
from opd_steps.graph.row_lengths import Rows, watched
from opd_steps.store.artifacts import read_manifest


def rows(graph: Graph, paper: str, seed: int) -> list[Rows]:
    """Token rows of all nodes of a paper, each once."""
    nodes = [node for node in graph.nodes.values() if node.paper == paper]
    found = [row for node in nodes for row in (*node.says.rows(node, seed), *watched(node, seed))]
    return list(dict.fromkeys(found))


def models(graph: Graph, paper: str, seed: int) -> list[str]:
    """Folders below results/ of the models and data that the paper's checks look at."""
    pairs, topk = outline.preflight_pairs(graph, paper, seed), outline.preflight_topk(graph, paper, seed)
    read = {folder for row in rows(graph, paper, seed) for folder in (row.data, row.tokens, *row.models)}
    return sorted({pair[side] for pair in pairs for side in ("left", "right")} | {entry["model"] for entry in topk} | read)


def asked(graph: Graph, paper: str, seed: int) -> list:
    """What the paper's nodes ask of their models, as plain data."""
    read = [asdict(row) for row in rows(graph, paper, seed)]
    return [outline.preflight_pairs(graph, paper, seed), outline.preflight_topk(graph, paper, seed), read]


def check(graph: Graph, paper: str, seed: int, results: Path, known: Callable[[str], bool] = lambda _: True) -> list[dict]:
    """One entry per pair of models; raises UserError naming node and what does not fit. `known`: which models to look at; all."""
    check_topk(results, [entry for entry in outline.preflight_topk(graph, paper, seed) if known(entry["model"])])
    pairs = outline.preflight_pairs(graph, paper, seed)
    return check_pairs(results, [pair for pair in pairs if known(pair["left"]) and known(pair["right"])])


def check_pairs(results: Path, pairs: list[dict]) -> list[dict]:
    """One entry per pair; raises UserError naming node, both models and what differs. Padded vocabularies are no difference."""
    out = []
    for pair in pairs:
        facts = [read_manifest(results / pair[side])["facts"] for side in ("left", "right")]
        if "tokenizer" not in facts[0].keys() & facts[1].keys():
            _require_one_family(pair, facts)
            continue
        left, right = ({**each["tokenizer"], "ends": each.get("ends")} for each in facts)
        for key, what in (
            ("eos", "end tokens"),
            ("ends", "end tokens"),
            ("chat_template_sha", "chat templates"),
            ("digest", "tokenizers"),
        ):
            if left[key] != right[key]:
                shown = f": {left[key]!r} and {right[key]!r}" if key in ("eos", "ends") else ""
                raise UserError(f"node {pair['node']}", f"{pair['left']} and {pair['right']} have different {what}{shown}")
        out.append({**pair, "tokenizer": left["digest"], "tokens": left["size"]})
    return out


def _require_one_family(pair: dict, facts: list[dict]) -> None:
    """Of models that speak no tokens no more is known before they are loaded; then their family compares them."""
    left, right = (each["family"]["name"] for each in facts)
    if left != right:
        what = f"{pair['left']} and {pair['right']} are models of different families: {left} and {right}"
        raise UserError(f"node {pair['node']}", what)


def check_topk(results: Path, asked: list[dict]) -> None:
    """Raises UserError where a method asks for more tokens than the vocabulary has."""
    for entry in asked:
        facts = read_manifest(results / entry["model"])["facts"]
        size = facts["tokenizer"]["size"] if "tokenizer" in facts else facts.get("vocab_size")
        if size is None:
            what = f"asks for the likeliest {entry['k']} actions, and those of {entry['model']} cannot be listed"
            raise UserError(f"node {entry['node']}.{entry['key']}", what)
        if not 1 <= entry["k"] <= size:
            raise UserError(f"node {entry['node']}.{entry['key']}", f"asks for {entry['k']} tokens, the vocabulary has {size}")
