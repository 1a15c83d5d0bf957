"""The estimate of `snakemake plan` against what a process on this machine holds: steps of distillation at SmolLM2-135M's shape, random weights.

    python -m tests.bench.plan_rss

576 wide, 30 layers, 49,152 words; rows of 64 + 64 tokens, 8 where a case says no other number, reverse KL over the whole vocabulary, two steps,
a process for each case.
"""

from __future__ import annotations

import argparse
import resource
from dataclasses import asdict, replace
from datetime import date

from tests.bench.measuring import contestant, tell

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M"
SIZES = {"rows": 8, "prompt": 64, "answer": 64}
CASES = [
    {"dtype": "float32", "micro_batch": 4},
    {"dtype": "float32", "micro_batch": 8},
    {"dtype": "float32", "micro_batch": 16, "rows": 16},
    {"dtype": "float32", "micro_batch": 4, "recompute": 1},
    {"dtype": "float32", "micro_batch": 8, "recompute": 1},
    {"dtype": "float32", "micro_batch": 16, "recompute": 1, "rows": 16},
    {"dtype": "float32", "micro_batch": 8, "r": 16},
    {"dtype": "bfloat16", "micro_batch": 8},
]


def needs(args: argparse.Namespace):
    """What the plan knows of such a node."""
    from opd_steps.graph.cost.known import of_path
    from opd_steps.graph.cost.needs import Needs
    from opd_steps.graph.cost.rows import Length
    from opd_steps.graph.cost.work import Held, Read, Work

    tune = {"name": "lora", "r": args.r} if args.r else {"name": "full"}
    options = {
        "dtype": args.dtype,
        "weights": "float32",
        "recompute": bool(args.recompute),
        "tune": tune,
        "optim": {"eight_bit": False},
        "resources": {"gpu": 0},
    }
    work = Work(
        ("student",), (Held("teacher", args.dtype),), samples="student", drawn=args.rows, prompts=args.rows, at_once=args.rows
    )
    work = replace(work, read=Read(args.micro_batch, args.rows, 6))
    shape = of_path(SMOLLM2)
    return Needs(
        options, work, {"student": shape, "teacher": shape}, Length(args.prompt, args.answer, args.prompt + args.answer)
    )


def run(args: argparse.Namespace) -> None:
    """Two steps in this process."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    import opd_steps.models  # noqa: F401   as in a step: ahead of transformers
    from opd_steps.config.merge import merge
    from opd_steps.graph.cost.known import published
    from opd_steps.graph.method import Method
    from opd_steps.graph.options import Optim
    from opd_steps.loop.learner import Learner
    from opd_steps.loop.objective import Objective
    from opd_steps.models.lm_policy import LMPolicy
    from opd_steps.models.numerics import Numerics, dtype_of, recompute_blocks
    from opd_steps.nouns.batch import Batch
    from opd_steps.process.heap import keep_freed_memory
    from opd_steps.tune.lora import Lora
    from tests.bench.opd_modes import Tokens

    keep_freed_memory()  # as every step does
    torch.set_num_threads(1)
    fields = published()[SMOLLM2]
    config = AutoConfig.for_model(**fields, pad_token_id=0, eos_token_id=None, bos_token_id=None)
    made = [AutoModelForCausalLM.from_config(config, dtype=dtype_of(d)).eval() for d in ("float32", args.dtype)]
    made[1].requires_grad_(False)
    if args.r:
        made[0].requires_grad_(False)
        Lora(r=args.r).adapt(made[0], 0)
    if args.recompute:
        recompute_blocks(made[0])
    numerics = [Numerics("float32", args.dtype), Numerics(args.dtype, args.dtype)]
    student, teacher = (
        LMPolicy(m, Tokens(config.vocab_size), numerics=n, max_new_tokens=args.answer)
        for m, n in zip(made, numerics, strict=True)
    )
    method = merge(Method, {"support": "full", "signal": "rkl", "estimator": "exact"}, "bench")
    learner = Learner(student, Objective.from_method(method, args.answer), {"teacher": teacher})
    learner.start("", {"steps": 2, "optim": asdict(Optim()), "micro_batch": args.micro_batch}, 0)
    for step in (1, 2):
        contexts = torch.randint(2, config.vocab_size - 2, (args.rows, args.prompt)).tolist()
        rows = student.rollout(contexts, range(args.rows), range(args.rows), step - 1)
        learner.update(step, Batch(rows), allows=lambda figures: True)
    used = resource.getrusage(resource.RUSAGE_SELF)
    tell({"bytes": used.ru_maxrss * 1024, "seconds": used.ru_utime + used.ru_stime})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="")
    for name, value in {**SIZES, "micro_batch": 8, "recompute": 0, "r": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.dtype:
        return run(args)
    from opd_steps.graph.cost.memory import judged

    print(
        f"{date.today()}; GB of a process, and its CPU seconds\n\n| case | estimate | measured | ratio | s |\n|---|---|---|---|---|",
        flush=True,
    )
    for case in CASES:
        guess = judged(needs(argparse.Namespace(**{**SIZES, "recompute": 0, "r": 0, **case}))).total
        found = contestant("tests.bench.plan_rss", case)
        held = found["bytes"]
        named = ", ".join(f"{name} {value}" for name, value in case.items())
        print(f"| {named} | {guess / 1e9:.3f} | {held / 1e9:.3f} | {guess / held:.3f} | {found['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
