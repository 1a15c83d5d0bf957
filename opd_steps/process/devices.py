"""Whose the GPUs of a job are: the step's own processes, and each server that has some of its own. No GPU is two's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from opd_steps.errors import UserError

NAME = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_servers: dict[str, list[str]] = {}


def wanted(engine: dict) -> int:
    """How many GPUs an engine of these options has for itself; 0: it stands beside the step's processes, or elsewhere."""
    if engine["name"] != "server" or engine.get("url"):
        return 0
    return engine["gpus"] or (engine["tensor_parallel"] if engine["tensor_parallel"] > 1 else 0)


def seen(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this job may use, by the names that CUDA knows them by."""
    if NAME in environment:
        return [name for name in environment[NAME].split(",") if name]
    return [str(i) for i, _ in enumerate(_DRIVER.glob("*"))]


def shares(there: Sequence[str], processes: int, servers: Mapping[str, int]) -> tuple[list[str], dict[str, list[str]]]:
    """(GPUs of the step's own processes, those of each server): servers get the last ones, in their order.

    `processes`: how many of them want one each. Raises UserError where there are too few.
    """
    left = len(there) - sum(servers.values())
    if left < processes:
        for_whom = [f"{count} of {key}" for key, count in servers.items()]
        for_whom += [f"one for each of {processes} processes"] if processes else []
        raise UserError("resources.gpu", f"this job sees {len(there)} GPUs, expected {', '.join(for_whom)}")
    found, at = {}, left
    for key, count in servers.items():
        found[key], at = list(there[at : at + count]), at + count
    return list(there[:left]), found


def take(engines: Mapping[str, dict], processes: int) -> None:
    """Before CUDA starts: from now on this process and what it starts see its own GPUs; those of servers are kept for them."""
    servers = {key: count for key, engine in engines.items() if (count := wanted(engine))}
    if servers and (there := seen()):
        own, found = shares(there, processes, servers)
        os.environ[NAME] = ",".join(own)
        _servers.update(found)


def environment(key: str) -> dict[str, str]:
    """What the server that the option `key` names is told of GPUs; nothing where it has none of its own."""
    return {NAME: ",".join(_servers[key])} if key in _servers else {}
