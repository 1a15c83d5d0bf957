"""The curves that a training node draws, told from its options: what claims, buffers and controllers may read."""

from __future__ import annotations

from opd_steps.config.curve_names import POLICY, TRAIN, controlled
from opd_steps.config.needs import GROUPS, teacher_need, terms
from opd_steps.config.option_paths import get_option
from opd_steps.config.plugs import constant

TRAIN_METRICS = {
    "pretrain": TRAIN,
    "sft": TRAIN,
    "rl": (*POLICY, "ratio", "clipped", "silent_groups"),
    "opd": POLICY,
}
"""Curves of metrics.jsonl by kind, written `train/<name>`; a claim may add `:first`, `:mean` or `:max` (default: mean of the last fifth)."""


def opd_curves(options: dict) -> list[str]:
    """Names without `train/`: the loop's own, and those of terms, plugs, buffer, hooks and controllers."""
    found, streams = list(POLICY), terms(options["method"])
    asked = any(teacher_need(row) != "none" for row in streams if row["against"] == "teacher")
    for i, row in enumerate(streams):
        names = _of_estimator(row, asked)
        for slot in ("transform", "weight"):
            for item in row[slot]:
                names += constant(GROUPS[slot], item["name"], "METRICS")
        found += [f"add{i - 1}_{name}" if i else name for name in names]
    if options["method"]["prefix"]["source"] == "dataset" and any(row["rows"] == "prefix" for row in streams):
        found.remove("reward")  # nobody judged them
    if options["buffer"]["batches"] * options["buffer"]["passes"] > 1:
        found += ["age", "refilled"]
    for item in options["hooks"]:
        found += constant("hooks", item["name"], "METRICS")
    moved = [item["sets"] for item in options["controllers"]]
    found += [controlled(path) for path in moved if isinstance(get_option(options, path), (int, float))]
    return list(dict.fromkeys(found))


def _of_estimator(row: dict, asked: bool) -> list[str]:
    """`asked`: whether anybody asks the teacher."""
    of = lambda slot, attribute: constant(GROUPS[slot], row[slot]["name"], attribute)
    names = ["log_ratio"] if asked or row["against"] != "teacher" else []
    names += of("estimator", "METRICS")
    sums, rewards = of("estimator", "SUPPORT") == "set", of("estimator", "BASELINE")
    measures = of("support", "TEACHER") != "sampled" and of("signal", "KIND") == "divergence"
    names += ["advantage"] if rewards else []
    names += ["divergence"] if sums or (rewards and measures) else []
    return names + (["ratio", "clipped"] if row["estimator"].get("ratio") == "sampler" else [])
