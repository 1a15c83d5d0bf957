"""What a result depends on: canonical configs, and hashes of the source that can change it, without comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent

BYSTANDERS = (
    "errors.py",  # words
    "graph/",  # a job's config is compared as such, however it was read and checked
    "config/layers.py",
    "config/load.py",
    "config/merge.py",
    "config/plug_schema.py",
    "config/ranges.py",
    "config/scalars.py",
    "config/schema.py",
    "config/yaml_file.py",
    "store/artifacts.py",  # where a result lies and what its manifest says
    "store/fingerprint.py",  # another digest makes every fingerprint another one anyway
    "store/lock.py",
    "store/sources.py",
    "store/views.py",
    "process/cards.py",
    "process/devices.py",  # who runs, and where
    "process/flops.py",
    "process/heap.py",
    "process/kv.py",
    "process/launch.py",
    "process/lifetime.py",
    "process/spans.py",
    "process/warm.py",
    "slurm/",
    "steps/_main.py",
)
"""Files and folders of the package that no figure comes from: they read, check, refuse, store, lock and start. They are in no node's
code, and nothing is that they alone import."""


CHOSEN = (
    "steps/_verl.py",
    "rollout/vllm_engine.py",
    "rollout/vllm_server.py",
    "rollout/vllm_student.py",
    "teachers/engine.py",
    "evaluation/vllm_lm.py",
    "models/made.py",
    "tasks/written.py",
    "tasks/slipped.py",
    "tasks/pool.py",
    "tasks/slip_pool.py",
    "tasks/shard_pool.py",
    "tasks/picture_pool.py",
    "tasks/caption_pool.py",
    "tasks/go_to_pool.py",
    "tasks/libero_pool.py",
)
"""The code of nodes whose options choose it (graph/code.py), though others import it: engines, what makes a model to start from, what
writes and what reads prompts."""


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal meaning, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def file_entry(path: Path) -> dict:
    """{sha256, bytes}: a file as manifests name it."""
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


class _Essence(ast.NodeTransformer):
    """Leaves out what no figure comes from: docstrings, imports for types, the words of errors, ranges and rules of options."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        note = node.annotation
        if isinstance(note, ast.Subscript) and ast.unparse(note.value) == "Annotated":
            node.annotation = note.slice.elts[0]
        return None if ast.unparse(node.target) in ("CHECKS", "UNCARRIED") else self.generic_visit(node)


def _parse(path: Path) -> ast.Module:
    stat = path.stat()
    return _parse_version(path, stat.st_mtime_ns, stat.st_size)


@cache
def _parse_version(path: Path, mtime_ns: int, size: int) -> ast.Module:
    return _Essence().visit(ast.parse(path.read_text(), filename=str(path)))


def source_hash(path: Path) -> str:
    """Hash of the module's syntax tree without comments, docstrings, the words of errors, ranges of options; a `touch` changes nothing."""
    stat = path.stat()
    return _hash_version(path, stat.st_mtime_ns, stat.st_size)


@cache
def _hash_version(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(ast.unparse(_parse(path)).encode()).hexdigest()[:12]


def _module_path(dotted: str) -> Path | None:
    base = ROOT.joinpath(*dotted.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def imports(path: Path) -> frozenset[Path]:
    """The modules of this package that a module imports when it runs, anywhere in it, with the packages around them."""
    here = path.relative_to(ROOT).with_suffix("").parts
    found: set[Path] = set()
    for node in ast.walk(_parse(path)):
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
    """All modules of this package that `files` import when they run, directly or not, themselves included; no bystanders, no engines."""
    seen: set[Path] = set()
    todo, chosen = list(files), {PACKAGE / name for name in CHOSEN}
    while todo:
        path = todo.pop()
        if path not in seen and not is_bystander(path):
            seen.add(path)
            todo.extend(other for other in imports(path) if other not in chosen)
    return tuple(sorted(seen))


def code_hashes(*files: Path) -> dict[str, str]:
    """`{"opd_steps/x.py": hash}` over the closure of `files`; modules that say nothing are left out."""
    return {str(p.relative_to(ROOT)): source_hash(p) for p in closure(*files) if _parse(p).body}
