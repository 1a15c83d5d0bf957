"""Checks of inference engines: a node asks of its engine only what that can do."""

from __future__ import annotations

from urllib.parse import urlsplit

from opd_steps.config.needs import terms
from opd_steps.errors import UserError


def check_engine(engine: dict, where: str) -> None:
    """Raises UserError for options that do not fit the engine."""
    if engine["name"] == "vllm" and engine["tensor_parallel"] > 1:
        raise UserError(f"{where}.tensor_parallel", "an engine in the step's own process has one GPU; a server takes several")
    if engine["name"] != "server" and (engine.get("url") or engine.get("port")):
        raise UserError(f"{where}.name", "url and port belong to a server: name: server, or leave them out")
    if engine.get("url") and not _is_address(engine["url"]):
        raise UserError(f"{where}.url", f"expected an address like http://host:8000, found {engine['url']!r}")
    if engine.get("url") and engine.get("port"):
        raise UserError(f"{where}.port", "url names a server that runs already; leave port out")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.query or parts.fragment)
        )
    except ValueError:  # a port that is no number
        return False


def check_opd_engines(options: dict, cached: bool, where: str) -> None:
    """Raises UserError where an opd node needs a torch model itself, and an engine runs in its place."""
    student, teacher, method = options["engine"]["name"], options["teacher_engine"]["name"], options["method"]
    if student != "local" and method["prefix"]["source"] == "token_mix":
        raise UserError(f"{where}.engine.name", "tokens are drawn from student and teacher at once (token_mix): use local")
    if teacher == "local":
        return
    at = f"{where}.teacher_engine.name"
    if cached:
        raise UserError(at, "with scores there is no teacher to run; leave it out")
    if options["teacher_source"]["name"] != "frozen":
        raise UserError(at, f"the teacher source {options['teacher_source']['name']} needs the teacher's own model: use local")
    sources = {method["prefix"]["source"], *(row["rows"] for row in terms(method))}
    if taken := sources & {"teacher", "token_mix"}:
        raise UserError(at, f"rows that the teacher samples ({', '.join(sorted(taken))}) need its own model: use local")
