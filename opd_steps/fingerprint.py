"""What a result depends on: canonical configs, and hashes of source that ignore comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal meaning, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@cache
def _parse(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text(), filename=str(path))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = body[1:] or [ast.Pass()]
    return tree


@cache
def source_hash(path: Path) -> str:
    """Hash of the module's syntax tree without docstrings: a comment, a blank line or a `touch` changes nothing."""
    return hashlib.sha256(ast.unparse(_parse(path)).encode()).hexdigest()[:12]


def _module_path(dotted: str) -> Path | None:
    base = ROOT.joinpath(*dotted.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _imports(path: Path) -> frozenset[Path]:
    found: set[Path] = set()
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {p for n in names if n.startswith(PACKAGE.name) and (p := _module_path(n))}
    return frozenset(found)


@cache
def closure(*files: Path) -> tuple[Path, ...]:
    """All modules of this package that `files` import, directly or not, themselves included (static; absolute imports only)."""
    seen: set[Path] = set()
    todo = list(files)
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo.extend(_imports(path))
    return tuple(sorted(seen))


def code_hashes(*files: Path) -> dict[str, str]:
    """`{"opd_steps/x.py": hash}` over the import closure of `files`; empty modules are left out."""
    hashes = {str(p.relative_to(ROOT)): source_hash(p) for p in closure(*files)}
    return {name: h for name, h in hashes.items() if (ROOT / name).stat().st_size}
