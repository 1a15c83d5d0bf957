"""Methods that a node measures, and does not train by: rows of plugs as an opd node has one, with the teachers that an analysis reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from opd_steps.config.needs import asks, rows_need, terms
from opd_steps.config.plugs import constant
from opd_steps.config.teachers import samplers, sources
from opd_steps.errors import UserError
from opd_steps.graph.checks.method_rules import LIVE, check_stream

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

TEACHERS = ("teacher", "reference")  # by the names that terms know them by


def asked_of(methods: Mapping[str, dict]) -> set[str]:
    """The teachers that the methods ask, or let sample."""
    asked = {whom for method in methods.values() for row in terms(method) for whom in asks(row)}
    return (asked | {name for source in _sources(methods) for name in samplers(source)}) & {*TEACHERS}


def text_columns(methods: Mapping[str, dict]) -> list[str]:
    """Text columns of the data that they learn from."""
    return list(dict.fromkeys(source["column"] for source in _sources(methods) if _of(source, "TEXTS")))


def check_measured(node: GraphNode, where: str) -> None:
    """Raises UserError, naming key and reason, for a method whose gradient cannot be measured."""
    options = node.options
    answers = {name: LIVE for name in TEACHERS if name in node.parents}
    alone = options["analysis"].get("n", 1) == 1
    for name, method in options["methods"].items():
        for i, row in enumerate(terms(method)):
            at = f"{where}.methods.{name}" + (f".add[{i - 1}]" if i else "")
            source = method["prefix"] if row["rows"] is None else row["rows"]
            key = f"{at}.{'prefix' if row['rows'] is None else 'rows'}"
            if _of(source, "LEARNER"):
                raise UserError(key, "there is no other learner here")
            if strangers := {*samplers(source)} - {*TEACHERS}:
                raise UserError(
                    key, f"{source['name']} lets '{min(strangers)}' sample; here are {' and '.join(TEACHERS)} alone"
                )
            for item in row["transform"]:
                if constant("objectives/transforms", item["name"], "SOURCE"):
                    raise UserError(f"{at}.transform", f"{item['name']} needs a teacher of its own source; here all are frozen")
            if alone and rows_need(row) == "groups":
                raise UserError(at, "this term compares samples of one prompt: set analysis.n to 2 or more")
            check_stream(row, at, answers, {"temperature": options["temperature"]}, _of(source, "SAMPLED"))


def _sources(methods: Mapping[str, dict]) -> Iterable[dict]:
    return (source for method in methods.values() for source in sources(method))


def _of(source: dict, attribute: str):
    return constant("prefixes", source["name"], attribute)
