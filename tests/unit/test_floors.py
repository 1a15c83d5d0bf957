"""The package's floors: imports go down only and never in a circle, and what Snakemake imports knows no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "opd_steps"
FLOORS = [
    {"errors", "seeds", "config", "store", "process", "graph", "slurm"},
    {"nouns", "objectives", "schedules"},
    {"rollout"},
    {"models"},
    {"tasks"},
    {"teachers", "gradients", "tune"},
    {"loop", "hooks", "judges"},
    {"prefixes", "verl"},
    {"evaluation", "analyses", "findings", "report", "tracking"},
    {"steps"},
]


def name_of(path: Path, package: Path) -> str:
    """ "config.checks" for graph/checks/any_node.py, "hooks" for hooks/__init__.py."""
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def modules(package: Path) -> dict[str, Path]:
    return {name_of(path, package): path for path in package.rglob("*.py")}


def imports(name: str, package: Path) -> set[str]:
    """Modules of the package that a module imports, in whatever form and wherever it stands."""
    known = modules(package)
    place = name.split(".") if known[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [package.name, *place][: len(place) + 2 - node.level] if node.level else []
            base = [*start, *(node.module or "").split(".")] if node.module else start
            targets = [base, *([*base, alias.name] for alias in node.names)]
        else:
            continue
        inside = [".".join(target[1:]) for target in targets if target[:1] == [package.name]]
        found |= {module for module in inside if module in known} - {"", name}
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules of which each imports each, directly or not."""

    def reached(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            for after in graph[todo.pop()] - seen:
                seen.add(after)
                todo.append(after)
        return seen

    below = {name: reached(name) for name in graph}
    groups = {frozenset(other for other in below[name] if name in below[other]) for name in graph}
    return sorted((set(group) for group in groups if group), key=sorted)


@pytest.fixture
def package(tmp_path) -> Path:
    """One of two floors, whose modules import in every form that there is."""
    texts = {
        "__init__": "",
        "low": "",
        "plain": "import toy.low",
        "of": "from toy.low import thing",
        "bare": "from toy import low",
        "renamed": "import os, toy.low as low",
        "late": "def f():\n    if 1:\n        from toy import low",
        "tried": "try:\n    from . import low\nexcept ImportError:\n    pass",
        "near": "from .low import thing",
        "sub/__init__": "from .. import low",
        "sub/deep": "from ..low import thing\nfrom . import other",
        "sub/other": "from toy.sub import deep",
        "none": "import os.path\nfrom typing import Any\nlow = 'from toy import low'",
    }
    for name, text in texts.items():
        (tmp_path / "toy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "toy" / f"{name}.py").write_text(text)
    return tmp_path / "toy"


def test_every_form_of_an_import_is_seen(package):
    found = {name: imports(name, package) for name in modules(package)}
    low = ("plain", "of", "bare", "renamed", "late", "tried", "near", "sub")
    assert {name: found[name] for name in low} == {name: {"low"} for name in low}
    assert found["sub.deep"] == {"low", "sub", "sub.other"} and found["sub.other"] == {"sub", "sub.deep"}
    assert found["none"] == found["low"] == set()
    assert circles(found) == [{"sub.deep", "sub.other"}]


def floor(module: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if module.split(".")[0] in names)


def test_imports_go_down_only():
    for name in modules(PACKAGE).keys() - {""}:
        assert [other for other in imports(name, PACKAGE) if floor(other) > floor(name)] == [], name


def test_no_module_imports_itself_through_others():
    found = {name: imports(name, PACKAGE) for name in modules(PACKAGE)}
    found["graph.kinds"] |= {name for name in found if name.startswith("graph.kinds.")}  # by looking into its folder
    assert circles(found) == []


def test_the_loop_speaks_nouns_and_no_tokens():
    """What it imports of the package: nouns, pure objectives, gradients, and what has no torch but for ranks."""
    rooms = {other.split(".")[0] for name in modules(PACKAGE) if name.startswith("loop.") for other in imports(name, PACKAGE)}
    assert rooms <= {"loop", "nouns", "objectives", "gradients", "config", "store", "process", "errors", "seeds"}


def test_no_room_imports_itself_through_others():
    rooms = {name.split(".")[0]: set() for name in modules(PACKAGE).keys() - {""}}
    for name in modules(PACKAGE).keys() - {""}:
        rooms[name.split(".")[0]] |= {other.split(".")[0] for other in imports(name, PACKAGE)} - {name.split(".")[0]}
    assert circles(rooms) == []


def test_files_are_small():
    sizes = sorted(len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py"))
    assert sizes[-1] <= 400
    assert sizes[len(sizes) // 2] < 200


def test_parsing_the_workflow_imports_no_torch():
    heavy = "('torch', 'transformers', 'mlflow', 'lm_eval')"
    code = f"import sys; from opd_steps.graph import snakemake; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
