"""Options as flat text: the params of a tracked run, and what tells the variants of a paper apart."""

from __future__ import annotations

import json
from collections import Counter

_NOT_METHOD = ("kind", "seed", "resources", "checkpoint_every")


def flatten(options: object, prefix: str = "") -> dict[str, str]:
    """Nested options as {"method.baseline.name": "neg_kl", "method.weight.0.name": ...}; all but text as JSON."""
    items = list(options.items() if isinstance(options, dict) else enumerate(options) if _nested(options) else ())
    if not items:
        return {prefix: options if isinstance(options, str) else json.dumps(options)}
    flat: dict[str, str] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _nested(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)


def differences(nodes: dict[str, dict]) -> dict[str, list[str]]:
    """For nodes of one kind (name -> options): the "key=value" in which each differs from the value that most of them share.

    Where no value is more common than another, the first node's is the common one.
    """
    flat = {name: flatten({k: v for k, v in options.items() if k not in _NOT_METHOD}) for name, options in nodes.items()}
    keys = dict.fromkeys(key for options in flat.values() for key in options)
    common = {key: Counter(options.get(key) for options in flat.values()).most_common(1)[0][0] for key in keys}
    return {
        name: [
            f"{key.removeprefix('method.').removesuffix('.name')}={value}"
            for key, value in options.items()
            if value != common[key]
        ]
        for name, options in flat.items()
    }
