"""Which source a node's job runs: its step, the plugs that its options name, and what no import tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from opd_steps.config import plug_schema, plugs
from opd_steps.config.merge import dataclass_of
from opd_steps.config.versions import versions
from opd_steps.graph.kinds import KINDS
from opd_steps.store.fingerprint import PACKAGE

Plug = tuple[str, str]  # group, name

_ROW = (("targets", "teacher"), ("supports", "sampled"), ("signals", "log_ratio"), ("baselines", "none"))
_MLE = (*_ROW, ("estimators", "mle"))
_GRPO = (*_ROW, ("signals", "outcome"), ("estimators", "pg"), ("estimators", "k3"))
_FIXED = {"pretrain": _MLE, "sft": _MLE, "rl": _GRPO}
"""Plugs of objectives that are not the user's to choose."""

_JUDGE, _SHOW = "tasks/verifiers", "tasks/hints"
_OF_DATA = {"rl": (_JUDGE,), "rollout": (_JUDGE,), "evaluate": (_JUDGE,), "opd": (_JUDGE, _SHOW), "analyze": (_JUDGE, _SHOW)}
"""Plugs that a data node names and a reader runs: who judges completions, who shows attempts."""

_ENGINES = {
    ("engine", "vllm"): ("rollout/vllm_engine.py",),
    ("teacher_engine", "vllm"): ("teachers/engine.py", "rollout/vllm_engine.py"),
    ("teacher_engine", "server"): ("teachers/engine.py", "rollout/vllm_server.py", "rollout/vllm_serve.py"),
    ("backend", "vllm"): ("evaluation/vllm_lm.py",),
    ("family", "causal_lm"): ("models/made.py",),
    ("task", "prompts"): ("tasks/written.py",),
}
"""fingerprint.CHOSEN: code of nodes whose options choose it."""


def files(kind: str, options: dict, data: dict | None = None, models: Iterable[dict] = ()) -> list[Path]:
    """The step and the plug files of a node. Checked options of others: `data`, of the data node that it reads; `models`, of the
    model nodes where the weights below it come from.
    """
    named = {plug for version in versions(options) for plug in used_plugs(KINDS[kind], version)}
    named |= {(f"objectives/{group}", name) for group, name in _FIXED.get(kind, ())}
    named |= {plug for plug in used_plugs(KINDS["data"], data or {}) if plug[0] in _OF_DATA.get(kind, ())}
    named |= {(group, name) for model in models for group, name in used_plugs(KINDS["model"], model)}
    world = data["task"]["name"] if data and kind != "model" else None  # a model takes its alphabet from the rows themselves
    named |= {("tasks/worlds", world)} if world else set()
    chosen = [PACKAGE / "tasks/pool.py"] if world == "prompts" else []
    for (role, name), parts in _ENGINES.items():
        value = options.get(role)
        if (value.get("name") if isinstance(value, dict) else value) == name:
            chosen += [PACKAGE / part for part in parts]
    return [PACKAGE / "steps" / f"{kind}.py", *(plugs.plug_path(group, name) for group, name in sorted(named)), *chosen]


def used_plugs(cls: type, options: dict) -> list[Plug]:
    """(group, name) of every plug in checked options."""
    found = []
    for f in dataclasses.fields(cls):
        value, group = options.get(f.name), f.metadata.get("plug")
        if value is None:
            continue
        if group:
            for item in value if f.metadata["many"] else [value]:
                found += [(group, item["name"]), *used_plugs(plug_schema.schema(group, item["name"]), item)]
        elif isinstance(value, (dict, list)) and (inner := dataclass_of(cls, f)):
            for item in value if isinstance(value, list) else [value]:
                found += used_plugs(inner, item)
    return found
