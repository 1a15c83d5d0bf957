"""Checks of inference engines: a node asks of its engine only what that can do."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from opd_steps.config.teachers import Teaching
from opd_steps.errors import UserError


def check_engine(engine: dict, where: str, apart: bool = False) -> None:
    """Raises UserError for options that do not fit the engine. `apart`: it does not run in the step's own process."""
    if engine["name"] == "vllm" and engine["tensor_parallel"] > 1 and not apart:
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


def check_opd_engines(options: dict, teachings: Iterable[Teaching], where: str) -> None:
    """Raises UserError where a teacher's torch model is needed, and an engine runs in its place."""
    for teaching in teachings:
        if teaching.engine["name"] == "local":
            continue
        at = f"{where}.{teaching.engine_key}.name"
        if teaching.scores:
            raise UserError(at, "with scores there is no teacher to run; leave it out")
        if teaching.weights["name"] != "frozen":
            raise UserError(at, f"the teacher source {teaching.weights['name']} needs the teacher's own model: use local")
        if teaching.own is not None:
            raise UserError(at, "the student's own weights are not served by an engine: use local")
