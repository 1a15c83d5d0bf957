"""Views of the results - plan, lists of manifests, preflight, MLflow, report - carry in themselves what they were made of."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from opd_steps.store.fingerprint import digest, file_sha256

MADE_OF = "made_of"


def made_of(code: str, files: Iterable[Path]) -> str:
    """Digest of what a view is made of: `code` (of its source, or of what the graph says) and the content of files, wherever they lie."""
    return digest([code, [file_sha256(path) for path in sorted(files)]])


def why(out: Path, code: str, files: Iterable[Path]) -> str:
    """Why the view `out` (JSON with `made_of`) is to be made again, "" if it is what it should be. A missing one is not judged."""
    try:
        found = json.loads(out.read_text())[MADE_OF]
        return "" if found == made_of(code, files) else f"{out} was made of something else than there is now"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return f"{out} is damaged"


def other_pages(claims: Path) -> str:
    """Why the report is to be made again though its claims are what they should be; "" if it need not."""
    for name, sha256 in json.loads(claims.read_text())["pages"].items():
        page = claims.parent / name
        if not page.exists():
            return f"{page} is missing"
        if file_sha256(page) != sha256:
            return f"{page} is damaged"
    return ""


def lost_runs(uri: str, index: Path) -> str:
    """Why results must be imported again: a local database is gone, or lacks runs of the last import; "" if all is there.

    A server is not asked before there is something to import.
    """
    found = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri)
    if not found or not index.exists():
        return ""
    if not Path(found[1]).exists():
        return f"{found[1]} is gone"
    try:
        with sqlite3.connect(f"file:{quote(found[1])}?mode=ro", uri=True) as database:
            there = {run for (run,) in database.execute("SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'")}
        database.close()
        lost = set(json.loads(index.read_text())["runs"].values()) - there
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{found[1]} and {index} do not fit together"
    return f"{found[1]} lacks {len(lost)} of the imported runs" if lost else ""


LISTED = 8  # papers


def addresses(report: Path, uri: str) -> list[str]:
    """Where a person looks at what was made: the report, and MLflow's pages of each paper, or of all where they are many."""
    lines = [f"report: {report / 'index.html'}"] if (report / "index.html").exists() else []
    try:
        index = json.loads((report / "mlflow.json").read_text())
        charts = {paper: index["pages"][paper] for paper in index["links"]}
        shown = charts if len(charts) <= LISTED else {"all papers": index["pages"][""]}
    except (OSError, ValueError, KeyError, TypeError):
        return lines
    if not uri.startswith("http"):
        lines.append(f"MLflow: mlflow ui --backend-store-uri {re.sub(r'//[^/@]*@', '//', uri)}, then")
    return lines + [f"MLflow, {name}: {index['server']}{page}" for name, page in shown.items()]
