"""Strategies: what people put where something else belongs, and what editors, shells and disks do to a text."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = [
    "",
    " ",
    "x",
    "a b",
    "a\nb",
    "a\tb",
    "é",
    "名",
    "²",
    "٣",
    "\u2028",
    "\u0000",
    "{x}",
    "{{ x }}",
    "${x}",
    "${vars.x}",
    "${oc.env:HOME}",
    "'",
    '"',
    "-x",
    "--help",
    "../x",
    "/etc/passwd",
    "~",
    ".",
    "..",
    "*",
    "%s",
    "$HOME",
    "`id`",
    "null",
    "true",
    "no",
    "1",
    "1e400",
    "nan",
    "0x1f",
    "1_000",
    "24:00:00",
    "2020-01-01",
    "???",
    "x" * 300,
]
ODD_NUMBERS = [
    0,
    -1,
    1,
    2,
    10**6,
    10**20,
    -(10**20),
    0.0,
    -0.5,
    0.5,
    1.5,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
]
ODD_TREES: list[Any] = [
    None,
    True,
    False,
    [],
    {},
    [1],
    ["x"],
    [None],
    [[]],
    {"a": 1},
    {"name": "x"},
    {"name": None},
    {1: 2},
    {"": ""},
]
ODD = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_TREES),
    st.integers(-3, 70),
    st.text(max_size=8),
)


def paths(tree: Any, at: tuple = ()) -> list[tuple]:
    """Of everything in the tree."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in inside for found in [(*at, key), *paths(value, (*at, key))]]


def parent(tree: Any, path: tuple) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


@st.composite
def replaced(draw, tree: Any) -> tuple[Any, tuple]:
    """(the tree with one value replaced, where)."""
    tree, path = copy.deepcopy(tree), draw(st.sampled_from(paths(tree)))
    parent(tree, path)[path[-1]] = draw(ODD)
    return tree, path


@st.composite
def renamed(draw, tree: Any, below: tuple = ()) -> tuple[Any, tuple]:
    """(the tree with a key that nobody knows in place of one of its own, where); the order is kept."""
    tree = copy.deepcopy(tree)
    path = draw(st.sampled_from([p for p in paths(tree) if isinstance(p[-1], str) and p[: len(below)] == below]))
    holder, key = parent(tree, path), path[-1]
    new = draw(
        st.sampled_from(
            [key[:-1] + "zz", key.upper() + "Q", key + " q", key[::-1] + "q", 7, None, True, 1.5, f"{key}.{key}", "é"]
        )
    )
    items = [(new if k == key else k, v) for k, v in holder.items()]
    holder.clear()
    holder.update(items)
    return tree, path


@st.composite
def spoiled(draw, text: str) -> bytes:
    """The text as another program left it."""
    at, data = draw(st.integers(0, max(len(text) - 1, 0))), text
    how = draw(
        st.sampled_from(["cut", "drop", "insert", "twice", "tab", "latin", "utf16", "bom", "nul", "bytes", "crlf", "lines"])
    )
    if how == "cut":
        data = text[:at]
    elif how == "drop":
        data = text[:at] + text[at + 1 :]
    elif how == "insert":
        data = (
            text[:at]
            + draw(
                st.sampled_from(
                    [*list("{}[]:,&*!|>'\"%@#-\t\\\n${"), "${a}", "!!python/object:os.system ", "<<: ", "--- ", "? "]
                )
            )
            + text[at:]
        )
    elif how == "twice":
        data = text + text
    elif how == "tab":
        data = text.replace("  ", "\t", 1)
    elif how == "latin":
        return (text[:at] + "é" + text[at:]).encode("latin-1", errors="replace")
    elif how == "utf16":
        return text.encode("utf-16")
    elif how == "bom":
        return b"\xef\xbb\xbf" + text.encode()
    elif how == "nul":
        data = text[:at] + "\0" + text[at:]
    elif how == "bytes":
        return text[:at].encode() + draw(st.binary(min_size=1, max_size=4)) + text[at:].encode()
    elif how == "crlf":
        data = text.replace("\n", "\r\n")
    elif how == "lines":
        lines = text.split("\n")
        i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        lines[i], lines[j] = lines[j], lines[i]
        data = "\n".join(lines)
    return data.encode()
