"""A YAML file as plain data: UTF-8, the scalars of YAML 1.2's core schema, and no key twice.

PyYAML reads YAML 1.1, where `no` is false, `0123` octal, `24:00:00` a number and `61e9540` infinity; here each is the text
that stands there. Beside a text, a plain scalar can only be a decimal number, true, false or null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from opd_steps.config.scalars import NUMBER, WHOLE
from opd_steps.errors import UserError

DEEPEST = 100  # levels of nesting; libyaml's recursion would end the process


def read(path: Path) -> Any:
    """What the file holds, None if it is empty. Raises UserError with file and line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return yaml.load(text, _Loader)
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}", "not UTF-8 text: save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{path}:{min(mark.line, text.count(chr(10))) + 1}" if mark else str(path)
        raise UserError(at, f"not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(str(path), f"not valid YAML: {error}") from None


class _Loader(yaml.CSafeLoader):
    yaml_implicit_resolvers: ClassVar[dict] = {}
    yaml_constructors: ClassVar[dict] = {None: yaml.constructor.SafeConstructor.construct_undefined}
    depth = 0

    def descend_resolver(self, parent: yaml.Node | None, index: Any) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"nested more than {DEEPEST} levels deep")

    def ascend_resolver(self) -> None:
        self.depth -= 1


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen: set[Hashable] = set()
    for name, _ in node.value:
        if name.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(name, deep=True)
        if not isinstance(key, Hashable) or key in seen:
            problem = f"the key '{key}' stands twice" if isinstance(key, Hashable) else "a list or mapping as a key"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=name.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _float(text: str) -> float | str:
    if "n" in text.lower():  # .inf, .nan
        return float(text.replace(".", ""))
    value = float(text)
    return value if math.isfinite(value) else text


def _int(text: str) -> int | str:
    return int(text) if len(text) < 30 else text


_SCALARS: dict[str, tuple[str, str, Callable[[str], Any]]] = {  # by tag: pattern, first characters, value
    "null": (r"~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (WHOLE.pattern, "-+0123456789", _int),
    "float": (rf"{NUMBER.pattern}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789", _float),
    "str": (r"(?s:.*)", "", str),
}


def _scalar(pattern: re.Pattern, value: Callable[[str], Any]) -> Callable[[_Loader, yaml.ScalarNode], Any]:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        if not pattern.match(text):
            raise yaml.MarkedYAMLError(problem=f"'{text}' is no {node.tag.rpartition(':')[2]}", problem_mark=node.start_mark)
        return value(text)

    return construct


for _name, (_words, _first, _value) in _SCALARS.items():
    _tag, _pattern = f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_words})\Z")
    _Loader.add_constructor(_tag, _scalar(_pattern, _value))
    if _first:
        _Loader.add_implicit_resolver(_tag, _pattern, [*_first, *([""] if _name == "null" else [])])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", lambda loader, node: loader.construct_sequence(node, deep=True))
