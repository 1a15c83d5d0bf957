"""What a result depends on: canonical configs, and hashes of the source that can change it, without comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent

BYSTANDERS = (
    "errors.py",  # words
    "fingerprint.py",  # another digest makes every fingerprint another one anyway
    "artifacts.py",  # where a result lies and what its manifest says
    "currency.py",
    "sources.py",
    "lock.py",
    "heap.py",  # who runs, and where
    "launch.py",
    "lifetime.py",
    "warm.py",
    "slurm/",
    "steps/_main.py",
    "graph.py",  # a job's config is compared as such, however it was read and checked
    "plan.py",
    "preflight.py",
    "workflow.py",
    "needrun.py",
    "views.py",
    "config/checks.py",
    "config/claims.py",
    "config/controllers.py",
    "config/curves.py",
    "config/engine_checks.py",
    "config/kinds.py",
    "config/load.py",
    "config/merge.py",
    "config/method_rules.py",
    "config/opd_checks.py",
    "config/process_checks.py",
    "config/schema.py",
)
"""Files and folders of the package that no figure comes from: they read, check, refuse, store, lock and start. They are in no node's
code, and nothing is that they alone import."""


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


def _statements(tree: ast.AST):
    """All nodes that may run: not what stands under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (found for other in node.orelse for found in (other, *_statements(other)))
        else:
            yield node
            yield from _statements(node)


@cache
def imports(path: Path) -> frozenset[Path]:
    """The modules of this package that a module imports when it runs, anywhere in it, with the packages around them."""
    here = path.relative_to(ROOT).with_suffix("").parts
    found: set[Path] = set()
    for node in _statements(_parse(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [".".join(here[: -node.level])] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == PACKAGE.name:
                found |= {p for n in range(1, len(parts) + 1) if (p := _module_path(".".join(parts[:n])))}
    return frozenset(found)


def is_bystander(path: Path) -> bool:
    name = str(path.relative_to(PACKAGE))
    return any(name == b or (b.endswith("/") and name.startswith(b)) for b in BYSTANDERS)


@cache
def closure(*files: Path) -> tuple[Path, ...]:
    """All modules of this package that `files` import when they run, directly or not, themselves included, but for bystanders (static)."""
    seen: set[Path] = set()
    todo = list(files)
    while todo:
        path = todo.pop()
        if path not in seen and not is_bystander(path):
            seen.add(path)
            todo.extend(imports(path))
    return tuple(sorted(seen))


def code_hashes(*files: Path) -> dict[str, str]:
    """`{"opd_steps/x.py": hash}` over the closure of `files`; modules that say nothing are left out."""
    return {str(p.relative_to(ROOT)): source_hash(p) for p in closure(*files) if _parse(p).body}
