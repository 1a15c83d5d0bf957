"""The curves that a training node draws, told from its options: what claims, buffers and controllers may read."""

from __future__ import annotations

from collections.abc import Iterable

from opd_steps.config.curve_names import POLICY, PROBABILITIES, controlled
from opd_steps.config.needs import GROUPS, asks, blind, terms
from opd_steps.config.option_paths import get_option
from opd_steps.config.plugs import constant
from opd_steps.config.teachers import origin, sources

SUFFIXES = ("", ":first", ":mean", ":max")


def figures(curves: Iterable[str], options: dict) -> list[str]:
    """What a claim may name of each curve of metrics.jsonl: the mean of its last fifth, `train/<name>`, and the other suffixes."""
    names = [*curves, *(["skipped"] if options["on_nonfinite"] == "skip" else [])]
    names += ["spikes", "spike_norm"] if options["spikes"]["factor"] else []
    names += [name for item in options["hooks"] for name in constant("hooks", item["name"], "METRICS") if name not in names]
    if options.get("trainer", {}).get("name") == "verl":
        names.remove("grad_variance")  # Adam's moments stay where they are
    return [f"train/{name}{suffix}" for name in names for suffix in SUFFIXES]


def opd_curves(options: dict) -> list[str]:
    """Names without `train/`: the loop's own, and those of terms, plugs, buffer, hooks and controllers; of a learner `<name>/<curve>`."""
    found = _of_learner(options["method"], options["gradient"], options)
    for item in options["judges"]:  # of the student's rows
        found += _judges(item, "METRICS")
    if options["buffer"]["batches"] * options["buffer"]["passes"] > 1:
        found += ["age", "refilled"]
    for item in options["hooks"]:
        found += constant("hooks", item["name"], "METRICS")
    moved = [item["sets"] for item in options["controllers"]]
    found += [controlled(path) for path in moved if isinstance(get_option(options, path), (int, float))]
    for name, learner in options["learners"].items():
        found += [f"{name}/{curve}" for curve in _of_learner(learner["method"], learner["gradient"], options)]
        for item in options["judges"]:
            found += [f"{name}/{curve}" for curve in _judges(item, "METRICS") if _judges(item, "EVERY")]
    return list(dict.fromkeys(found))


def _judges(item: dict, attribute: str):
    return constant("judges", item["name"], attribute)


def _of_learner(method: dict, gradient: dict, options: dict) -> list[str]:
    streams = terms(method)
    found = [name for name in POLICY if name not in PROBABILITIES or not all(map(blind, streams))] + ["teacher_rows"]
    asked = {whom for row in streams for whom in asks(row)}
    for i, row in enumerate(streams):
        names = _of_estimator(row, row["against"] in asked or row["against"] == "sampler")
        for slot in ("where", "transform", "weight"):
            for item in row[slot]:
                names += constant(GROUPS[slot], item["name"], "METRICS")
        found += [f"add{i - 1}_{name}" if i else name for name in names]
    first = origin(next(sources(method)), options)
    if not constant("prefixes", first["name"], "JUDGED"):
        found.remove("reward")
    return [*found, *constant("gradients", gradient["name"], "METRICS")]


def _of_estimator(row: dict, asked: bool) -> list[str]:
    """`asked`: whether anybody asks the teacher that the term is against."""
    of = lambda slot, attribute: constant(GROUPS[slot], row[slot]["name"], attribute)
    names = ["log_ratio"] if asked and of("estimator", "TEACHER") != "hidden" else []
    names += of("estimator", "METRICS")
    sums, rewards = of("estimator", "SUPPORT") == "set", of("estimator", "BASELINE")
    measures = of("support", "TEACHER") != "sampled" and of("signal", "KIND") == "divergence"
    names += ["advantage"] if rewards else []
    names += ["divergence"] if sums or (rewards and measures) else []
    return names + (["ratio", "clipped"] if row["estimator"].get("ratio") == "sampler" else [])
