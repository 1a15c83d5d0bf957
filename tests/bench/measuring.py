"""What the benchmarks share: the chip's name, a median time, and a contestant in a process of its own, for its peak of memory."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = "MEASURED "


def chip(device: str = "cpu") -> str:
    """The name of the chip that works."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return models[0] if models else platform.machine()


def median_seconds(work: Callable[[], object], device: str = "cpu", repeats: int = 5) -> float:
    """Median over repeats, after one that is not counted: CPU seconds of this process, on a GPU wall seconds."""
    clock, taken = time.perf_counter if device == "cuda" else time.process_time, []
    for _ in range(repeats + 1):
        begun = clock()
        work()
        if device == "cuda":
            import torch

            torch.cuda.synchronize()
        taken.append(clock() - begun)
    return statistics.median(taken[1:])


def tell(found: dict) -> None:
    """In a contestant's process: its figures to the one that started it."""
    print(MARK + json.dumps(found))


def contestant(module: str, options: dict[str, object], python: str = sys.executable) -> dict:
    """The figures that `python -m module --option value ...` tells; RuntimeError with the end of its output when there are none."""
    command = [python, "-m", module, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    env = {"OMP_NUM_THREADS": "1"} | os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    found = [line for line in run.stdout.splitlines() if line.startswith(MARK)]
    if not found:
        raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr[-3000:]}")
    return json.loads(found[0].removeprefix(MARK))
