"""What a GPU does: optimizer steps, the vocabulary head, one forward for all. One process, as long as --seconds lets it begin a case.

    python -m tests.bench.gpu --seconds 200

Steps are those of opd_step.py, `ours` against `bare`; peak memory is the allocator's. Each row is printed as soon as it is there.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from datetime import date

import torch

from tests.bench import forwards, head
from tests.bench.measuring import chip, median_seconds
from tests.bench.opd_modes import MODES, Stopwatch, Work

SMOLLM2 = {"shape": "135m-135m", "vocab": 49_152, "batch": 64, "micro_batch": 64, "prompt": 56, "completion": 64}
QWEN3 = {"shape": "0.6b-1.7b", "vocab": 151_936, "batch": 32, "micro_batch": 8, "prompt": 256, "completion": 256}
STEPS = [
    (SMOLLM2 | {"dtype": "mixed"}, 4),
    (QWEN3 | {"dtype": "mixed"}, 2),
    (QWEN3 | {"dtype": "mixed", "recompute": True}, 2),
    (SMOLLM2 | {"dtype": "bfloat16"}, 4),
    (SMOLLM2 | {"dtype": "float32"}, 4),
    (QWEN3 | {"dtype": "bfloat16"}, 2),
    (QWEN3 | {"dtype": "float32"}, 2),
    *(({"vocab": vocab}, 5) for vocab in (512, 16_384, 151_936)),
]
HEAD = argparse.Namespace(tokens=8192, hidden=1024, teacher=2048, vocab=151_936, device="cuda")


def fresh() -> None:
    """As if nothing had run before."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak() -> float:
    return torch.cuda.max_memory_allocated() / 2**20


def step(options: dict, steps: int, mode: str) -> str:
    """A row of the table: after two steps that are not counted, medians."""
    fresh()
    work, watch = Work(device="cuda", **options), Stopwatch("cuda")
    MODES[mode](work, steps + 2, watch)
    parts = {name: times[2:] for name, times in watch.parts.items()}
    whole = statistics.median(map(sum, zip(*parts.values(), strict=True)))
    columns = [f"{statistics.median(times):.3f}" for times in parts.values()]
    rate = work.batch * work.completion / whole
    shape = work.shape or "64 x 2, 128 x 4"
    dtype = f"{work.dtype}, recomputed" if work.recompute else work.dtype
    return f"| {shape}, {work.vocab:,} | {dtype} | {mode} | {' | '.join(columns)} | {whole:.3f} | {rate:,.0f} | {peak():,.0f} |"


def who(options: dict) -> tuple[str, ...]:
    return ("ours",) if options.get("recompute") else ("ours", "bare")


def of_head(who: str, method: str) -> str:
    fresh()
    x = head.Tensors(HEAD)
    before = peak()

    def once() -> None:
        x.h.grad = x.w.grad = None
        getattr(head, who)(x, method).backward()

    taken = median_seconds(once, "cuda")
    used, floor = peak() - before, median_seconds(lambda: head.products(x), "cuda")
    error = ""
    if method == "rkl":
        exact = head.exact_gradient(x)
        error = f"{float((x.h.grad[: head.CHECKED].double().cpu() * len(x.h) - exact).norm() / exact.norm()):.1e}"
    return f"| {who} | {method} | {taken:.4f} | {taken / floor:.2f} | {used:,.0f} | {error} |"


def of_forwards(teachers: int) -> str:
    times = {name: [] for name in ("once", "again")}
    for _ in range(4):
        for name, forward in (("once", forwards.Forward), ("again", forwards.Again)):
            times[name].append(forwards.backward(teachers, forwards.ROWS // 4, forward, "cuda"))
    once, again = (statistics.median(found[1:]) for found in times.values())
    return f"{teachers} teachers, 4 micro-batches: {once:.3f} s, run again {again:.3f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=200.0)
    end = time.monotonic() + parser.parse_args().seconds
    print(f"{date.today()}, {chip('cuda')}, torch {torch.__version__}\n", flush=True)
    cases = [lambda o=o, n=n, m=m: step(o, n, m) for o, n in STEPS[:3] for m in who(o)]
    cases += [lambda w=w, m=m: of_head(w, m) for w, m in [*(("ours", m) for m in head.METHODS), ("naive", "rkl")]]
    cases += [lambda o=o, n=n, m=m: step(o, n, m) for o, n in STEPS[3:] for m in who(o)]
    cases += [lambda t=t: of_forwards(t) for t in (1, 4)]
    for case in cases:
        if time.monotonic() > end:
            print("no time for more")
            break
        begun = time.monotonic()
        try:
            print(case(), f"   ({time.monotonic() - begun:.0f} s)", flush=True)
        except torch.OutOfMemoryError as error:
            print(f"out of memory: {str(error)[:200]}", flush=True)


if __name__ == "__main__":
    main()
