"""Checks of inference engines: a node asks of its engine only what that can do."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from opd_steps.config.teachers import Teaching, samples, starts
from opd_steps.errors import UserError


def check_engine(engine: dict, where: str, apart: bool = False, gpu: bool = True) -> None:
    """Raises UserError for options that do not fit the engine. `apart`: it does not run in the step's own process; `gpu`: the node has one."""
    if engine["sleep"] and (engine["name"] != "vllm" or apart or not gpu):
        raise UserError(f"{where}.sleep", "what sleeps is vLLM in the step's own process, on a GPU: leave it out")
    if engine["name"] == "vllm" and engine["tensor_parallel"] > 1 and not apart:
        raise UserError(f"{where}.tensor_parallel", "an engine in the step's own process has one GPU; a server takes several")
    if engine["name"] != "server" and (odd := [key for key in ("url", "port", "gpus") if engine.get(key)]):
        raise UserError(f"{where}.name", f"{odd[0]} belongs to a server: name: server, or leave it out")
    if engine.get("url") and not _is_address(engine["url"]):
        raise UserError(f"{where}.url", f"expected an address like http://host:8000, found {engine['url']!r}")
    if engine.get("url") and (odd := [key for key in ("port", "gpus") if engine[key]]):
        raise UserError(f"{where}.{odd[0]}", f"url names a server that runs already; leave {odd[0]} out")
    if engine["gpus"] % engine["tensor_parallel"]:
        what = f"expected a multiple of tensor_parallel ({engine['tensor_parallel']}), found {engine['gpus']}"
        raise UserError(f"{where}.gpus", what)


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
    """Raises UserError where a teacher's torch model is needed, and an engine runs in its place; and where one server would sample for
    several."""
    who = [learner for learner in starts(options) if samples(options, learner)]
    if options["engine"]["name"] == "server" and len(who) > 1:
        raise UserError(f"{where}.engine.name", f"a server samples for one learner, here are {len(who)} that sample: use local")
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
