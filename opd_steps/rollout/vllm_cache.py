"""What vLLM says of its KV cache (process.kv): in this process at each step of the engine, of a server where somebody asks it."""

from __future__ import annotations

import re

from opd_steps.process import kv


class Seen:
    """In the place of vLLM's own loggers (v1.metrics.loggers). `sampling`: whether the requests are those of a rollout."""

    sampling = False

    def record(self, scheduler_stats, iteration_stats, **_) -> None:
        if self.sampling:
            kv.sampling.see(scheduler_stats.kv_cache_usage, iteration_stats.num_preempted_reqs if iteration_stats else 0)

    def log(self) -> None:
        """It keeps no log."""


def of_metrics(metrics: str) -> tuple[float, int]:
    """Of a server's /metrics, in Prometheus' text form: the share in use, of several engines the largest, and all requests preempted since
    its start."""
    values = lambda name: [float(value) for value in re.findall(rf"^vllm:{name}(?:{{.*}})? (\S+)", metrics, re.M)]
    return max(values("kv_cache_usage_perc"), default=0.0), int(sum(values("num_preemptions_total")))
