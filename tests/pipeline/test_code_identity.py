"""A node's code is what can change its result: docs/code.md says for every file whose, and here every file is edited."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from opd_steps.graph.kinds import KINDS
from opd_steps.store import fingerprint
from opd_steps.store.fingerprint import PACKAGE, ROOT, closure, is_bystander
from tests.pipeline.checkout import Checkout

ROW = re.compile(
    r"^\| (.*`.*) \| (nothing|[a-z, ]+)(; those that use it|; those of analyze that use it)?(?: \(.*\))? \|$", re.M
)
TABLE = [
    (re.findall(r"`([^`]+)`", files), set() if kinds == "nothing" else set(kinds.split(", ")), some.removeprefix("; those "))
    for files, kinds, some in ROW.findall((ROOT / "docs/code.md").read_text().split("| files of")[1])
]


def run(module: str, *arguments: str, folder: Path) -> dict:
    """What `python -m module` prints, run in a checkout that has our tests."""
    if not (folder / "tests").exists():
        (folder / "tests").symlink_to(ROOT / "tests")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", module, *arguments]
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1])


def said(file: str) -> tuple[set[str], str]:
    """(kinds, "" for all their nodes, else of whom only those that use it), as the table has it."""
    exact = [row for row in TABLE if file in row[0]]
    depth = lambda pattern: pattern.count("/") == file.count("/")
    named = lambda pattern: depth(pattern) and pattern.endswith("__init__.py") == file.endswith("__init__.py")
    rows = exact or [row for row in TABLE if any(named(p) and fnmatchcase(file, p) for p in row[0])]
    assert rows and len(exact) <= 1, f"docs/code.md: no row, or two, for {file}"
    return rows[0][1], rows[0][2]


def test_each_file_of_the_package_reruns_whom_the_table_says(tmp_path):
    found = run("tests.pipeline.edits", folder=Checkout(tmp_path).without("smoke").folder)
    assert len(found) == len(list(PACKAGE.rglob("*.py"))) > 200
    wrong = {}
    for file, edit in found.items():
        kinds, some = said(file)
        stale, spared = set(edit["stale"]), set(edit["spared"]) - ({"analyze"} if some.startswith("of analyze") else set())
        if (stale - kinds) if some.startswith("that") else (stale != kinds or spared):
            wrong[file] = f"table: {sorted(kinds)} {some}, edit: {edit}"
    assert wrong == {}


def test_the_table_speaks_of_kinds_and_files_that_are_there():
    files = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")]
    for patterns, kinds, _ in TABLE:
        assert kinds <= KINDS.keys()
        assert [p for p in patterns if not any(fnmatchcase(file, p) for file in files)] == []


def test_all_that_a_step_loads_is_its_nodes_code(copy, monkeypatch):
    """But for bystanders and engines that are not used, and what they alone import. Plugs and kinds are loaded by name: no import tells."""
    found = run("tests.pipeline.loaded", "smoke", folder=copy.folder)
    assert {name.split("/")[0] for name in found} == KINDS.keys()
    monkeypatch.setattr(fingerprint, "is_bystander", lambda path: False)
    monkeypatch.setattr(fingerprint, "CHOSEN", ())
    closure.cache_clear()
    kinds = [*(PACKAGE / "graph/kinds").glob("*.py")]
    for name, node in found.items():
        reached = {str(path.relative_to(ROOT)) for path in closure(*kinds, *(ROOT / file for file in node["code"]))}
        lacking = set(node["loaded"]) - set(node["code"])
        assert {file for file in lacking if file not in reached and not is_bystander(ROOT / file)} == set(), name
    closure.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("x = 1\n", "x = 1  # one\n\n\n", True),
        ("def f():\n    return 1\n", 'def f():\n    """One."""\n    return 1\n', True),
        ('raise UserError("a", "b")\n', 'raise UserError("a", f"{x} c") from None\n', True),
        ("from a import b\n", "from a import b\nif TYPE_CHECKING:\n    from c import D\n", True),
        ('lr: Annotated[float, "at least 0"] = 1.0\n', 'lr: Annotated[float, "above 0"] = 1.0\n', True),
        ('lr: Annotated[float, "at least 0"] = 1.0\n', 'lr: Annotated[float, "at least 0"] = 2.0\n', False),
        ('CHECKS: ClassVar[tuple] = ("a < b",)\nx = 1\n', "x = 1\n", True),
        ("raise A(x)\n", "raise B(x)\n", False),
        ("if TYPE_CHECKING:\n    a = 1\nelse:\n    a = 2\n", "a = 2\n", True),
        ("x = 1\n", "x = 2\n", False),
        ('x = "a"\n', 'x = "b"\n', False),
    ],
)
def test_what_of_a_file_counts(tmp_path, old, new, same):
    path = tmp_path / "x.py"
    path.write_text(old)
    before = fingerprint.source_hash(path)
    path.write_text(new)
    os.utime(path, ns=(1, 1))
    assert (fingerprint.source_hash(path) == before) is same
