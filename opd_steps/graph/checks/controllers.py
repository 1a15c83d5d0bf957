"""Checks of controllers: the option that each sets must exist, be allowed to change, and be valid at every value it can get."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from opd_steps.config import plugs
from opd_steps.config.curve_names import controlled
from opd_steps.config.merge import merge
from opd_steps.config.option_paths import get_option, parts, require_option, with_option
from opd_steps.config.versions import values
from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_FIXED = ("sampling.n", "sampling.top_p", "sampling.top_k", "sampling.stop")
_SETTABLE = re.compile(r"method\.|sampling\.|learners\.\w+\.method\.")


def check_controllers(node: GraphNode, where: str, check: Callable[[dict], None]) -> None:
    """Raises UserError for a controller that cannot work. `check(options)` raises it for the node's options with one value replaced."""
    seen: list[str] = []
    drawn: dict[str, str] = {}
    for i, item in enumerate(node.options["controllers"]):
        at, path = f"{where}.controllers[{i}]", item["sets"]
        if not _SETTABLE.match(path) or path.startswith(_FIXED):
            raise UserError(
                f"{at}.sets", f"'{path}' cannot change while a node trains; options of method and of sampling's length can"
            )
        if path.startswith("sampling.") and "scores" in node.parents:
            raise UserError(f"{at}.sets", f"with scores nobody samples while the node trains, so '{path}' changes nothing")
        now = require_option(node.options, path, f"{at}.sets")
        for other in seen:
            if all(a == b for a, b in zip(parts(path), parts(other), strict=False)):
                raise UserError(f"{at}.sets", f"two controllers set '{path}'" + (f" ('{other}')" if other != path else ""))
        seen.append(path)
        if isinstance(now, (int, float)) and drawn.setdefault(controlled(path), path) != path:
            raise UserError(
                f"{at}.sets", f"'{drawn[controlled(path)]}' and '{path}' would share one curve, train/{controlled(path)}"
            )
        for name in plugs.constant("schedules", item["name"], "VALUES"):
            checked = []
            for value in values(item, name):
                whole = isinstance(now, int) and isinstance(value, float) and value.is_integer()
                raw = with_option(node.options, path, int(value) if whole else value)
                options = merge(node.says, raw, f"{at}.{name}")
                check(options)
                checked.append(get_option(options, path))
            item[name] = checked if name == "stages" else checked[0]  # what the check made of it: {name: rkl} for `rkl`
