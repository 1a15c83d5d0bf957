"""All that a node's options may become while it trains."""

from __future__ import annotations

from collections.abc import Iterator

from opd_steps.config import plugs
from opd_steps.config.option_paths import with_option


def versions(options: dict) -> Iterator[dict]:
    """The node's checked options, and again with each value that a controller names in the place of what it sets."""
    yield options
    for item in options.get("controllers", ()):
        for name in plugs.constant("schedules", item["name"], "VALUES"):
            for value in values(item, name):
                yield with_option(options, item["sets"], value)


def values(item: dict, name: str) -> list:
    """The values that a controller's option names."""
    return item[name] if name == "stages" else [item[name]]
