"""Options by their path, as controllers name them: method.add[0].coef, sampling.max_new_tokens."""

from __future__ import annotations

import re
from typing import Any

from opd_steps.errors import UserError

_PART = re.compile(r"\.?([A-Za-z_]\w*)|\[(\d+)\]")


def parts(path: str) -> list[str | int]:
    """The path in parts: ["method", "add", 0, "coef"]. Raises ValueError for what is no path."""
    found, at = [], 0
    while at < len(path):
        match = _PART.match(path, at)
        if not match:
            raise ValueError(path)
        found.append(match[1] if match[1] else int(match[2]))
        at = match.end()
    return found


def get_option(options: dict, path: str) -> Any:
    """Raises KeyError, IndexError, TypeError or ValueError where there is no such option."""
    value: Any = options
    for part in parts(path):
        value = value[part]
    return value


def with_option(options: Any, path: str, new: Any) -> Any:
    """A copy of `options` with one value replaced; what is not on the path is shared."""

    def put(value: Any, rest: list[str | int]) -> Any:
        if not rest:
            return new
        head, tail = rest[0], rest[1:]
        if isinstance(value, list):
            return [put(v, tail) if i == head else v for i, v in enumerate(value)]
        return value | {head: put(value[head], tail)}

    return put(options, parts(path))


def require_option(options: dict, path: str, where: str) -> Any:
    """The option's value; raises UserError with `where` when it does not exist."""
    try:
        return get_option(options, path)
    except (KeyError, IndexError, TypeError, ValueError):
        raise UserError(
            where, f"'{path}' names no option of this node; e.g. sampling.max_new_tokens, method.add[0].coef"
        ) from None
