"""The options that a node may have while it trains."""

from __future__ import annotations

from collections.abc import Iterator

from opd_steps.config import plugs
from opd_steps.config.option_paths import with_option


def versions(options: dict) -> Iterator[dict]:
    """The node's checked options, then a copy for each value that a controller may set."""
    yield options
    for item in options.get("controllers", ()):
        for name in plugs.constant("schedules", item["name"], "VALUES"):
            for value in values(item, name):
                yield with_option(options, item["sets"], value)


def values(item: dict, name: str) -> list:
    """The values that the option `name` of a controller holds."""
    return item[name] if name == "stages" else [item[name]]
