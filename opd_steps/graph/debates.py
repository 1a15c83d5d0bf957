"""Who debates about the rows of a node, and how long what they say may be: known from the graph alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.teachers import learners, sources

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def debates(node: GraphNode) -> tuple[int, int]:
    """(experts, tokens of all that they say of a state at most); (0, 0): nobody debates."""
    data, options = node.parents["data"], node.options
    held = [source for _, method in learners(options) for source in sources(method) if source.get("debaters")]
    if held:
        count = min(len(source["debaters"]) for source in held)
        replies = max(len(source["debaters"]) * source["rounds"] for source in held)
        return count, replies * options["sampling"]["max_new_tokens"]
    if "experts" not in data.options:
        return 0, 0
    count = len(data.options["experts"])
    return count, count * data.options["rounds"] * data.options["sampling"]["max_new_tokens"]


def unheld(node: GraphNode) -> str:
    """Why the debates of a node's data are not about the states of its rows; "": they are, or are held as the rows are made."""
    data = node.parents["data"].options
    for source in (source for _, method in learners(node.options) for source in sources(method)):
        if "debaters" not in source or source["debaters"]:
            continue
        if source["history"] == "student":
            return "nobody has debated about states that the student comes to: turns needs debaters"
        if (data["states"], data["column"]) != ("turns", source["column"]):
            return f"its debates are about other states than those of turns: states: turns, column: {source['column']}"
    return ""
