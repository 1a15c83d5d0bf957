"""What token rows a node will make of its data, and what these must fit in: plain data, known from the graph alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


@dataclass(frozen=True)
class Rows:
    """Rows of one split, read by one node.

    node      the node that makes them
    data      folder below results/ of the data node that the prompts come from
    tokens    folder of the model whose tokenizer writes them
    models    folders of all models that read them
    split     of the data; `limit`: its first rows alone, 0 = all
    column    text behind the prompt; "" = nothing, or what a policy says
    context   what stands in the prompt's place: canonical JSON of a plug of teachers/contexts; "" = the prompt itself
    answer    tokens that a policy may say behind the prompt
    shown     tokens of others that may be shown beside the prompt
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
    shown: int = 0
    caps: tuple[tuple[str, int], ...] = ()


def made(node: GraphNode, seed: int, *roles: str, **part) -> Rows:
    """Rows of the node's own data, read by the models of those roles that it has, in the tokens of the first."""
    models = folders(node, seed, *roles)
    return Rows(node.name, node.parents["data"].origin.path(seed), models[0], models, **part)


def sampled(node: GraphNode, role: str, seed: int, *roles: str, caps: tuple[tuple[str, int], ...] = ()) -> Rows:
    """The rows of the rollout node `role`, or of the one that its scores are of, read by the models of the other roles."""
    rollout = node.parents[role].parents.get("rollouts", node.parents[role])
    o, p = rollout.options, rollout.parents
    part = {"split": o["split"], "limit": o["limit"], "answer": o["sampling"]["max_new_tokens"], "caps": caps}
    return Rows(
        node.name, p["data"].origin.path(seed), rollout.root_of("policy").path(seed), folders(node, seed, *roles), **part
    )


def watched(node: GraphNode, seed: int) -> list[Rows]:
    """What hooks of a training ask it beside its own rows."""
    found = []
    for item in node.options.get("hooks", ()):
        if "split" in item:
            answer = 0 if item.get("measure") == "nll" else item["max_new_tokens"] or node.options["sampling"]["max_new_tokens"]
            column = "" if answer else item["column"]
            part = {"split": item["split"], "limit": item["prompts"], "answer": answer, "column": column}
            found.append(made(node, seed, node.says.START, **part))
    return found


def folders(node: GraphNode, seed: int, *roles: str) -> tuple[str, ...]:
    """Below results/, of the models that the node's models started from."""
    return tuple(node.root_of(role).path(seed) for role in roles if role in node.parents)


def caps(engine: dict, key: str) -> tuple[tuple[str, int], ...]:
    """The length that an engine is bound to, if it is; `key`: the option that says so."""
    bound = engine["name"] != "local" and engine["max_model_len"]
    return ((f"{key}.max_model_len", engine["max_model_len"]),) if bound else ()
