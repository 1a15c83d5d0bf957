"""The package's floors: imports go down only, and what Snakemake imports knows no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "opd_steps"
FLOORS = [
    {
        "errors",
        "seeds",
        "metrics",
        "fingerprint",
        "artifacts",
        "config",
        "graph",
        "plan",
        "workflow",
        "lock",
        "lifetime",
        "heap",
        "launch",
        "warm",
        "slurm",
        "preflight",
        "files",
        "sources",
        "currency",
        "needrun",
        "views",
        "preflight_rows",
    },
    {"nouns", "objectives", "schedules", "ranks"},
    {"rollout", "teachers", "tasks", "models"},
    {"loop", "hooks"},
    {"evaluation", "analyses", "report", "tracking"},
    {"steps"},
]


def floor(module: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if module in names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
        found |= {n.split(".")[1] for n in names if isinstance(n, str) and n.startswith("opd_steps.")}
    return found


def test_imports_go_down_only():
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own != "__init__":
            assert [n for n in imports(path) if floor(n) > floor(own)] == [], path


def test_files_are_small():
    sizes = sorted(len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py"))
    assert sizes[-1] <= 400
    assert sizes[len(sizes) // 2] < 200


def test_parsing_the_workflow_imports_no_torch():
    code = "import sys; from opd_steps import workflow; print([m for m in ('torch', 'transformers', 'mlflow', 'lm_eval') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
