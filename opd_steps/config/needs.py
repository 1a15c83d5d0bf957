"""What rows of plugs need, told from the plugs' constants without importing them; their groups' Protocols say what these mean."""

from __future__ import annotations

from typing import Any

from opd_steps.config.plugs import constant

GROUPS = {
    slot: f"objectives/{slot}s" for slot in ("support", "signal", "estimator", "baseline", "target", "transform", "weight")
}
_LISTS = ("transform", "weight")
_ORDER = ("none", "sampled", "topk", "full")


def terms(method: dict) -> list[dict]:
    """The rows of a method: its own, then those of `add`."""
    return [method, *method.get("add", [])]


def _constant(options: dict, slot: str, attribute: str) -> Any:
    return constant(GROUPS[slot], options[slot]["name"], attribute)


def _core_need(options: dict) -> str:
    if _constant(options, "signal", "KIND") == "observed" or _constant(options, "estimator", "TEACHER") == "none":
        return "none"
    return _constant(options, "support", "TEACHER")


def _listed(options: dict, attribute: str) -> list:
    return [constant(GROUPS[slot], item["name"], attribute) for slot in _LISTS for item in options[slot]]


def teacher_need(options: dict) -> str:
    """The most that any part of a stream must know of the teacher: none, sampled, topk or full."""
    beside = [_constant(options, slot, "TEACHER") for slot in ("baseline", "target")]
    return max(_core_need(options), *beside, *_listed(options, "TEACHER"), key=_ORDER.index)


def reference_need(options: dict) -> str:
    """What the target must know of the reference: none, sampled or full."""
    target = options["target"]
    neutral = _constant(options, "target", "NEUTRAL")
    if not _constant(options, "target", "REFERENCE") or (neutral and all(target[name] == neutral[name] for name in neutral)):
        return "none"
    return "sampled" if _core_need(options) == "sampled" and teacher_need(options) == "sampled" else "full"


def outcome_need(options: dict) -> bool:
    """Whether a part of the stream needs outcome advantages."""
    return _constant(options, "signal", "OUTCOME") or any(_listed(options, "OUTCOME"))


def wide_plugs(options: dict) -> list[str]:
    """Names of the parts that look at the whole batch."""
    return [item["name"] for slot in _LISTS for item in options[slot] if constant(GROUPS[slot], item["name"], "WIDE")]


def rows_need(options: dict) -> str:
    """What the stream must know of its rows: none, sampled (by a policy, and judged) or groups (several of each prompt)."""
    asked = _listed(options, "ROWS")
    asked += ["sampled"] if options["against"] == "sampler" or options["estimator"].get("ratio") == "sampler" else []
    asked += ["groups"] if outcome_need(options) else []
    return max(asked, default="none", key=("none", "sampled", "groups").index)


def teacher_topk(options: dict) -> int:
    """How many of the teacher's likeliest tokens the support asks for; 0 when it takes none from the teacher."""
    return options["support"]["k"] if _core_need(options) == "topk" else 0
