"""What rows of plugs need, told from the plugs' constants without importing them.

support.TEACHER     what it takes from the teacher: sampled | topk | full
signal.TEACHER      "none": it asks no teacher (a signal without a divergence)
signal.KIND         "reward": a reward that is no divergence's
target.REFERENCE    it looks at the reference, unless its options equal target.NEUTRAL
target.NORMALISED   whether it is a distribution (default), or log-weights
estimator.SUPPORT   which supports it works on: sampled | set | any
estimator.SIGNAL    which signals: any | divergence | fixed (its own)
estimator.BASELINE  whether it subtracts the baseline
estimator.TEACHER   "none": it asks no teacher
estimator.TRANSFORM whether it transforms its advantage
METRICS             of estimator, transform, weight: curves that they draw beside log_ratio, advantage and divergence
OUTCOME             signal, transform or weight: it needs the outcome advantages of groups
WIDE                transform or weight: it looks at the whole batch
ROWS                transform or weight: it needs rows that a policy sampled ("sampled"), several of each prompt ("groups")
LOG_RATIO           transform: it acts on log p - log q of the sampled action alone
TEACHER             of baseline, target, transform, weight: what they ask beside
"""

from __future__ import annotations

from opd_steps.config.plugs import constant

GROUPS = {
    slot: f"objectives/{slot}s" for slot in ("support", "signal", "estimator", "baseline", "target", "transform", "weight")
}
_LISTS = ("transform", "weight")
_ORDER = ("none", "sampled", "topk", "full")


def terms(method: dict) -> list[dict]:
    """The rows of a method: its own, then those of `add`."""
    return [method, *method.get("add", [])]


def _constant(options: dict, slot: str, attribute: str, default: object = None) -> object:
    return constant(GROUPS[slot], options[slot]["name"], attribute, default)


def _core_need(options: dict) -> str:
    if "none" in (_constant(options, "signal", "TEACHER"), _constant(options, "estimator", "TEACHER")):
        return "none"
    return _constant(options, "support", "TEACHER")


def _listed(options: dict, attribute: str, default: object) -> list:
    return [constant(GROUPS[slot], item["name"], attribute, default) for slot in _LISTS for item in options[slot]]


def teacher_need(options: dict) -> str:
    """The most that any part of a stream must know of the teacher: none, sampled, topk or full."""
    beside = [_constant(options, slot, "TEACHER", "none") for slot in ("baseline", "target")]
    return max(_core_need(options), *beside, *_listed(options, "TEACHER", "none"), key=_ORDER.index)


def reference_need(options: dict) -> str:
    """What the target must know of the reference: none, sampled or full."""
    target = options["target"]
    neutral = _constant(options, "target", "NEUTRAL", {})
    if not _constant(options, "target", "REFERENCE", False) or all(target[name] == value for name, value in neutral.items()):
        return "none"
    return "sampled" if _core_need(options) == "sampled" and teacher_need(options) == "sampled" else "full"


def outcome_need(options: dict) -> bool:
    """Whether a part of the stream needs outcome advantages."""
    return bool(_constant(options, "signal", "OUTCOME", False)) or any(_listed(options, "OUTCOME", False))


def wide_plugs(options: dict) -> list[str]:
    """Names of the parts that look at the whole batch."""
    return [item["name"] for slot in _LISTS for item in options[slot] if constant(GROUPS[slot], item["name"], "WIDE", False)]


def rows_need(options: dict) -> str:
    """What the stream must know of its rows: none, sampled (by a policy, and judged) or groups (several of each prompt)."""
    asked = _listed(options, "ROWS", "none")
    asked += ["sampled"] if options["against"] == "sampler" or options["estimator"].get("ratio") == "sampler" else []
    asked += ["groups"] if outcome_need(options) else []
    return max(asked, default="none", key=("none", "sampled", "groups").index)


def teacher_topk(options: dict) -> int:
    """How many of the teacher's likeliest tokens the support asks for; 0 when it takes none from the teacher."""
    return options["support"]["k"] if _core_need(options) == "topk" else 0
