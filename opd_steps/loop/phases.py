"""Where a training's time goes: for the log and timing.json, never for metrics.jsonl, whose bytes two runs share."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from opd_steps.process import cards, flops, kv, spans


class Phases:
    """Wall seconds of this process by phase, and decisions that were trained on, since it began or went on:

    batch       rollouts, judges, what engines say of them
    update      forward passes of all models, backward pass, optimizer
    hooks       after each step, milestones with them
    checkpoint
    """

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps, self.tokens = 0, 0.0
        self.flops: Counter[str] = Counter()  # of updates, by dtype

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        begun, before = time.monotonic(), flops.done.copy()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - begun
            if name == "update":
                self.flops += flops.done - before

    def speed(self) -> dict[str, float]:
        """tflops_per_s  10^12 model FLOPs a second that this process makes in its updates: learners' passes with gradient, and those of
                      the models beside them
        mfu           their share of what its card makes at most in the dtypes of these products (PaLM, arXiv 2204.02311, appendix B):
                      sum over dtypes of FLOPs / peak, / seconds; of a card that process.cards knows

        {} where a model's formula is not known.
        """
        seconds = self.seconds.get("update")
        if not seconds or not self.flops or flops.UNKNOWN in self.flops:
            return {}
        found = {"tflops_per_s": self.flops.total() / seconds / 1e12}
        if torch.cuda.is_available() and (peak := cards.peak(torch.cuda.get_device_name())):
            found["mfu"] = sum(count / peak[dtype] for dtype, count in self.flops.items()) / seconds
        return found

    def told(self) -> dict:
        """Seconds by phase, steps, tokens a second, `speed`; on a GPU the most memory that tensors took there, in MiB; where servers sample
        or score, seconds by what they did, as the first rank saw it; where vLLM samples, the largest share of its KV cache in use, and how
        many requests were preempted for want of it."""
        whole = sum(self.seconds.values())
        found = {"phases_s": dict(self.seconds), "steps": self.steps, "tokens_per_s": self.tokens / whole if whole else 0.0}
        found |= self.speed()
        if torch.cuda.is_available():
            found["gpu_peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
        if kv.sampling.most:
            found |= {"kv_cache_peak": kv.sampling.most, "preempted": kv.sampling.preempted}
        return found | ({"engines_s": dict(spans.engines.seconds)} if spans.engines.seconds else {})

    def __str__(self) -> str:
        whole = sum(self.seconds.values())
        shares = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in self.seconds.items() if seconds >= 0.01 * whole)
        found = self.speed()
        speed = f"  {found['tflops_per_s']:.3g} TFLOP/s" if found else ""
        speed += f" (MFU {found['mfu']:.1%})" if "mfu" in found else ""
        cache = f"  KV cache {kv.sampling.most:.0%}, {kv.sampling.preempted} preempted" if kv.sampling.most else ""
        memory = f"  {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if torch.cuda.is_available() else ""
        return f"{whole / max(self.steps, 1):.3g} s a step ({shares})  {self.tokens / whole:.4g} tokens/s{speed}{cache}{memory}"
