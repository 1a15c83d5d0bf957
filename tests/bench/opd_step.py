"""An optimizer step of on-policy distillation against TRL and a bare loop, at the same work (tests/bench/opd_modes.py).

python -m tests.bench.opd_step --trl /tmp/trl/bin/python             three vocabularies on one CPU thread
python -m tests.bench.opd_step --shape 135m-135m --device cpu --dtype mixed --vocab 49152 --prompt 56
                                                                     SmolLM2's shape, bf16 products of fp32 weights
python -m tests.bench.opd_step --shape 0.6b-1.7b --trl PYTHON        bfloat16 on a GPU, Qwen3's shapes and vocabulary

Each contestant runs in a process of its own, in turn, `--repeat` times; the table has medians over the steps of all of them. On a CPU
figures are CPU seconds; on a GPU wall seconds. `--trl`: the Python of an environment with trl==1.16.0 and this one's packages.
"""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import statistics
import sys
from collections import defaultdict

from tests.bench.measuring import chip, contestant, tell

STEPS = {512: 20, 16_384: 8, 151_936: 5}  # of a run, after WARM ones that are not counted
WARM = 2
SIZES = {"batch": 8, "micro_batch": 8, "prompt": 16, "completion": 64}


def measure(args: argparse.Namespace) -> None:
    """One contestant in this process."""
    if args.mode == "ours":
        import opd_steps.models  # noqa: F401   as in a step: ahead of transformers, whose needless imports it keeps out
    import torch

    from tests.bench.opd_modes import MODES, Stopwatch, Work

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    watch = Stopwatch(args.device)
    sizes = {name: getattr(args, name) for name in SIZES}
    work = Work(vocab=args.vocab[0], device=args.device, dtype=args.dtype, shape=args.shape, **sizes)
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    losses = MODES[args.mode](work, args.steps + WARM, watch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if args.device == "cuda":
        imported, peak = 0, torch.cuda.max_memory_allocated() / 1024
    parts = {name: times[WARM:] for name, times in watch.parts.items()}
    tell({"parts": parts, "peak_mib": peak / 1024, "import_mib": imported / 1024, "losses": losses})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=None)
    parser.add_argument("--trl", default="", help="Python of an environment with trl; without it TRL does not take part")
    parser.add_argument("--shape", default="", help="student and teacher in real sizes: 135m-135m, 0.6b-1.7b, 0.6b-4b")
    parser.add_argument("--device", default="", help="cuda where a shape is given, else cpu")
    parser.add_argument("--dtype", default="", help="float32, bfloat16 or mixed; bfloat16 on a GPU, else float32")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--mode", default="")
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    args.device = args.device or ("cuda" if args.shape else "cpu")
    args.dtype = args.dtype or ("bfloat16" if args.device == "cuda" else "float32")
    args.vocab = args.vocab or ([151_936] if args.shape else list(STEPS))
    if args.mode:
        return measure(args)
    modes = ["ours", "bare", *(["trl"] if args.trl else [])]
    threads = f"{os.environ.get('OMP_NUM_THREADS', '1')} thread(s)"
    print(f"{datetime.date.today()}, {chip(args.device)}, {threads}; {args.dtype}, {args.batch} rows,")
    print(
        f"prompt {args.prompt}, completion {args.completion}; {'wall' if args.device == 'cuda' else 'CPU'} seconds a step, medians\n"
    )
    print("| vocabulary | who | rollout | teacher and gradient | optimizer | step | to ours | peak MiB | of it after imports |")
    print("|---|---|---|---|---|---|---|---|---|")
    sizes = {name: getattr(args, name) for name in SIZES}
    for vocab in args.vocab:
        options = {
            "vocab": vocab,
            "shape": args.shape,
            "device": args.device,
            "dtype": args.dtype,
            "steps": args.steps or STEPS.get(vocab, 5),
        } | sizes
        runs = defaultdict(list)
        for _ in range(args.repeat):
            for mode in modes:
                python = args.trl if mode == "trl" else sys.executable
                runs[mode].append(contestant("tests.bench.opd_step", {"mode": mode} | options, python))
        whole = {}
        for mode in modes:
            parts = {n: [t for r in runs[mode] for t in r["parts"][n]] for n in runs[mode][0]["parts"]}
            whole[mode] = statistics.median(map(sum, zip(*parts.values(), strict=True)))
            columns = [f"{statistics.median(times):.3f}" for times in parts.values()]
            peak, imported = (statistics.median(r[k] for r in runs[mode]) for k in ("peak_mib", "import_mib"))
            row = [f"{vocab:,}", mode, *columns, f"{whole[mode]:.3f}", f"{whole[mode] / whole['ours']:.2f}"]
            print("| " + " | ".join([*row, f"{peak:.0f}", f"{peak - imported:.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
