"""The rows of the table: options as a user writes them, and who runs that."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.estimator_table.measure import K

SETS = ("student_topk", "teacher_topk", "intersection", "union")
NORMS = ("raw", "renormalise", "tail")


@dataclass(frozen=True)
class Row:
    """One estimator. `stale`: its actions come from a stale sampler, not from the student."""

    options: dict = field(default_factory=dict)
    who: str = ""
    stale: bool = False

    @property
    def label(self) -> str:
        """The plugs by name where they are not vanilla's, their options behind them."""
        items = [self.options.get(s) for s in ("estimator", "signal", "support", "baseline", "target")]
        return " ".join(_plug(item) for item in (*items, *self.options.get("transform", ())) if item)


def _plug(item: str | dict) -> str:
    if isinstance(item, str):
        return f"`{item}`"
    given = [f"{k}: {v}" if k not in ("norm", "support") else str(v) for k, v in item.items() if k not in ("name", "k")]
    return f"`{item['name']}`" + (f" ({', '.join(given)})" if given else "")


def on(support: str, norm: str = "raw") -> dict:
    return {"name": support, "k": K, "norm": norm}


def exact(signal: str | dict, support: str | dict = "full", who: str = "", estimator: str = "exact") -> Row:
    return Row({"estimator": estimator, "signal": signal, "support": support}, who)


def pg(who: str = "", stale: bool = False, baseline: str | dict | None = None, signal=None, **options) -> Row:
    slots = {"estimator": {"name": "pg", **options}, "signal": signal, "baseline": baseline}
    return Row({slot: item for slot, item in slots.items() if item}, who, stale)


SKEWED = {"name": "skew", "direction": "reverse"}
TOPK_BASELINE = {"name": "neg_kl", "support": "student_topk", "k": K}

SAMPLED = [
    pg("vanilla OPD: TML's tinker-cookbook, slime, prime-rl, verl with `use_policy_gradient`"),
    pg("vOPD (arXiv 2605.07865)", baseline="neg_kl"),
    pg("vOPD, top-k", baseline=TOPK_BASELINE),
    pg("the state-only baseline of least variance", baseline="optimal"),
    Row({"estimator": "k2"}, "KDRL (arXiv 2506.02208)"),
    Row({"estimator": "k3_plus"}, "verl's kl_penalty `k3+`; its distillation losses can't name it"),
    Row({"estimator": "k3"}, "k3 as a loss"),
    Row({"estimator": "k3_clamped"}, "verl's default: `loss_mode: k3`, clamped at 10"),
    Row({"estimator": "k1"}, "k1 as a loss"),
    Row({"estimator": "mle"}, "SFT on the student's own samples"),
    pg("forward KL as a reward: p/q", signal="fkl"),
    pg("the same per sample as `k3`", signal="fkl", baseline="neg_kl"),
    pg(signal="jsd"),
    pg(signal="jsd", baseline="neg_kl"),
]

FULL = [
    exact("rkl", who="MiniLLM's single step; TRL `beta: 1`"),
    exact("rkl", who="the same gradient", estimator="stop_grad"),
    exact("rkl", who="never negative: nothing is clamped", estimator="clamped"),
    exact("fkl", who="GKD; TRL `beta: 0`; on teacher prefixes SFT with soft targets"),
    exact("jsd", who="GKD, beta .5"),
    exact("mix", who="Decoupling KL (arXiv 2605.16826), weight .5"),
    exact("skew", who="DistiLLM, alpha .1"),
    exact(SKEWED, who="DistiLLM, alpha .1"),
]

_WHO = {
    ("exact", "student_topk", "raw"): "verl tried and dropped it",
    ("exact", "student_topk", "tail"): "Many Faces' `full_vocab_topk_reverse_kl`",
    ("exact", "teacher_topk", "renormalise"): "NeMo RL (`zero_outside_topk: false`), ms-swift",
    ("exact", "intersection", "renormalise"): "Many Faces' default",
    ("stop_grad", "student_topk", "raw"): "Many Faces' `topk_reverse_kl_notail_sg`",
    ("pg", "student_topk", "raw"): "Rethinking OPD (arXiv 2604.13016) `only_stu`",
    ("pg", "teacher_topk", "raw"): "Rethinking OPD `only_tch`",
}
TOPK = [
    exact("rkl", on(support, norm), _WHO.get((estimator, support, norm), ""), estimator)
    for support in SETS
    for estimator, norm in (("exact", "raw"), ("stop_grad", "raw"), ("pg", "raw"), ("exact", "renormalise"), ("exact", "tail"))
] + [
    exact("rkl", {"name": "zero_outside_topk", "k": K}, "NeMo RL (`zero_outside_topk: true`)"),
    Row(
        {"estimator": "state_advantage", "signal": "rkl", "support": on("student_topk")},
        "miles: the top-k KL as the sampled token's advantage",
    ),
    exact("fkl", on("teacher_topk"), "verl's `forward_kl_topk` without its clamp"),
    exact("fkl", on("teacher_topk"), "verl's `forward_kl_topk`", "clamped"),
    exact("fkl", on("teacher_topk", "renormalise"), "NeMo RL (`zero_outside_topk: false`), ms-swift"),
    exact("fkl", on("teacher_topk", "tail"), "verl's proposed `forward_kl_topk_tail`"),
    exact("fkl", {"name": "zero_outside_topk", "k": K}, "NeMo RL (`zero_outside_topk: true`)"),
    exact("fkl", on("student_topk", "tail")),
    exact("jsd", on("student_topk", "tail"), "SDPO, MOPD (arXiv 2605.12652)"),
]

_FULL = {"estimator": "exact", "support": "full"}
CHANGED = [
    Row({"estimator": "pg", "signal": {"name": "power", "alpha": 5.0}}, "PowerOPD (arXiv 2606.17199)"),
    Row({"estimator": "pg", "transform": [{"name": "floor", "lam": 0.3}]}, "REOPOLD (arXiv 2603.11137)"),
    Row({"estimator": "pg", "transform": ["clip"]}, "clipped to [-1, 1]: a control of PowerOPD"),
    Row({"estimator": "pg", "transform": ["tanh"]}, "a control of PowerOPD"),
    Row({"target": {"name": "extrapolate", "lam": 1.25}, "estimator": "pg"}, "ExOPD (arXiv 2602.12125)"),
    Row({**_FULL, "signal": "fkl", "target": {"name": "taid", "t": 0.4}}, "TAID (arXiv 2501.16937) at its start"),
    Row({**_FULL, "signal": "rkl", "target": {"name": "veto", "beta": 0.5}}, "Veto (arXiv 2601.07155)"),
    Row({**_FULL, "signal": "fkl", "target": {"name": "veto", "beta": 0.5}}, "the same, forward"),
]

_RATIOS = {
    "no correction": {},
    "importance sampling": {"ratio": "sampler"},
    "truncated (TIS)": {"ratio": "sampler", "is_cap": 2.0},
    "masked (ICE-POP)": {"ratio": "sampler", "mask_low": 0.5, "mask_high": 2.0},
    "PPO's clip": {"ratio": "sampler", "clip_low": 0.2, "clip_high": 0.2},
}
OFF_POLICY = [
    *[pg(who, True, baseline, **options) for who, options in _RATIOS.items() for baseline in (None, "neg_kl")],
    *[Row({"estimator": k}, "no correction", True) for k in ("k2", "k3", "k1")],
    Row({"estimator": "exact", "signal": "rkl", "support": "full"}, "asks for no sample of the student's", True),
]
