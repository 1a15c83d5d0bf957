"""Controllers of a node, checked: what each sets exists, may change, and stays valid at every value that it can take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opd_steps.config import plugs
from opd_steps.config.merge import merge
from opd_steps.config.options import require_option, with_option
from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph import GraphNode

SETTABLE = ("method.", "sampling.")


def check_controllers(node: GraphNode, where: str, check: Callable[[dict], None]) -> None:
    """Raises UserError; `check(options)` judges the node's options with one value replaced."""
    from opd_steps.config.kinds import KINDS

    seen: set[str] = set()
    for i, item in enumerate(node.options["controllers"]):
        at, path = f"{where}.controllers[{i}]", item["sets"]
        if not path.startswith(SETTABLE) or path in ("sampling.n", "sampling.top_p"):
            raise UserError(
                f"{at}.sets", f"'{path}' cannot change while a node trains; options of method and of sampling's length can"
            )
        if path in seen:
            raise UserError(f"{at}.sets", f"two controllers set '{path}'")
        seen.add(path)
        now = require_option(node.options, path, f"{at}.sets")
        for value in extremes(item, at):
            if isinstance(now, int) and not isinstance(now, bool) and isinstance(value, float) and value == int(value):
                value = int(value)
            raw = with_option(node.options, path, value)
            check(merge(KINDS[node.kind], raw, f"{at} sets {path}"))


def extremes(item: dict, where: str) -> list[Any]:
    """Values that a controller may give its option, told from its options without importing it."""
    names = plugs.constant("schedules", item["name"], "VALUES")
    found: list[Any] = []
    for name in names:
        value = item[name]
        found += value if isinstance(value, list) and name == "stages" else [value]
    if not found:
        raise UserError(where, "this controller has no values to set")
    return found
