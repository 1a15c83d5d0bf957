"""What a node's training costs, and how a node measures: what must be equal of two models that a claim compares (graph.equal)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

LENGTH = "sampling.max_new_tokens"


def training(
    node: GraphNode, part: str, rows: int, optim: dict | None = None, tokens: int | str | None = None
) -> dict[str, Any]:
    """steps     updates of the weights: those of all minibatches; of a milestone those before it; in words where measurements decide
    samples   rows that these are made of, `rows` a step, counted as often as they are used
    lr        the learning rate and its schedule
    tokens    the longest answer that may be written for it, where somebody writes one
    """
    options = node.options
    optim, steps = optim or options["optim"], options["keep"].get(part, options["steps"])
    warmup = f", warm-up {optim['warmup']:g}" if optim["warmup"] else ""
    said = _decided(part, options)
    found = {"steps": said(steps * options.get("minibatches", 1)), "samples": said(steps * rows)}
    found["lr"] = f"{optim['lr']:g} {optim['schedule']}{warmup}"
    return found | ({} if tokens is None else {"tokens": tokens})


def _decided(part: str, options: dict) -> Callable[[int], int | str]:
    """How a number of steps is to be said: a hook may end the training earlier, or keep an earlier model."""
    if part and part not in options["keep"] and part not in options.get("learners", ()):
        return lambda count: f"the best of {count}"
    ends = any(item.get("patience") for item in options["hooks"])
    return (lambda count: f"at most {count}") if ends else (lambda count: count)


def tokens_of(node: GraphNode) -> int | str | None:
    """The cap on the length of what a node samples, and who moves it; None where it samples nothing."""
    if "sampling" not in node.options:
        return None
    cap = node.options["sampling"]["max_new_tokens"]
    movers = [item["name"] for item in node.options.get("controllers", ()) if item["sets"] == LENGTH]
    return f"{cap}, moved by {movers[0]}" if movers else cap


def measurement(
    node: GraphNode, options: Iterable[str], more: dict[str, Any], roles: Iterable[str] = ("data",)
) -> dict[str, Any]:
    """evaluation   the options that a figure depends on, and the nodes in these roles"""
    of = {role: node.named(role, "/".join(node.parents[role].key)) for role in roles if role in node.parents}
    return {"evaluation": of | {key: node.options[key] for key in options} | more}
