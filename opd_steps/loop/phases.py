"""Where a training's time goes: for the log and timing.json, never for metrics.jsonl, whose bytes two runs share."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from opd_steps.process import spans


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

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - begun

    def told(self) -> dict:
        """Seconds by phase, steps, tokens a second; on a GPU the most memory that tensors took there, in MiB; where servers sample or
        score, seconds by what they did, as the first rank saw it."""
        whole = sum(self.seconds.values())
        found = {"phases_s": dict(self.seconds), "steps": self.steps, "tokens_per_s": self.tokens / whole if whole else 0.0}
        if torch.cuda.is_available():
            found["gpu_peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return found | ({"engines_s": dict(spans.engines.seconds)} if spans.engines.seconds else {})

    def __str__(self) -> str:
        whole = sum(self.seconds.values())
        shares = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in self.seconds.items() if seconds >= 0.01 * whole)
        memory = f"  {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if torch.cuda.is_available() else ""
        return f"{whole / max(self.steps, 1):.3g} s a step ({shares})  {self.tokens / whole:.4g} tokens/s{memory}"
