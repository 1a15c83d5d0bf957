"""The vocabulary head alone, forward and backward: time against its four matrix products, memory, error of the gradient.

python -m tests.bench.head                                                             512 tokens, fp32, one CPU thread
python -m tests.bench.head --tokens 8192 --hidden 1024 --teacher 2048 --device cuda    bfloat16 on a GPU

ours      the head of a training step, for the methods named by --methods
naive     logits and log-probs of all tokens at once, reverse KL, autograd
liger     Liger's fused linear JSD at beta = 1, where liger-kernel is installed
Each runs in a process of its own, for its peak of memory. The error is ||dL/dhidden - exact|| / ||exact|| on the first 64 tokens, exact: fp64.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
from datetime import date

import torch
from torch import Tensor

from opd_steps.config.merge import merge
from opd_steps.graph.method import Term as Stream
from opd_steps.loop.chunked import chunked_sum
from opd_steps.nouns.dist import LazyCategorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import build
from opd_steps.process.heap import kept_chunks
from tests.bench.measuring import chip, contestant, median_seconds, tell

METHODS = {
    "rkl": {"support": "full", "signal": "rkl", "estimator": "exact"},
    "jsd": {"support": "full", "signal": "jsd", "estimator": "exact"},
    "topk": {"support": {"name": "teacher_topk", "k": 64}, "signal": "fkl", "estimator": "exact"},
    "neg_kl": {"support": "sampled", "baseline": "neg_kl"},
    "sampled": {"support": "sampled"},
}
SIZES = {"tokens": 512, "hidden": 64, "teacher": 128, "vocab": 151_936, "repeats": 3}
CHECKED = 64  # tokens whose gradient is compared


class Tensors:
    """Hidden states and heads of student and teacher, and a sampled token each."""

    def __init__(self, args: argparse.Namespace):
        generator = torch.Generator().manual_seed(0)
        dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
        draw = lambda *shape: torch.randn(*shape, generator=generator).to(args.device, dtype)
        self.h, self.t = draw(args.tokens, args.hidden), draw(args.tokens, args.teacher)
        self.w, self.u = draw(args.vocab, args.hidden) / args.hidden**0.5, draw(args.vocab, args.teacher) / args.teacher**0.5
        self.action = torch.randint(args.vocab, (args.tokens,), generator=generator).to(args.device)
        for leaf in (self.h, self.w):
            leaf.requires_grad_()


def ours(x: Tensors, method: str) -> Tensor:
    stream = build(merge(Stream, METHODS[method], "bench"))
    evidence = Evidence(x.action, LazyCategorical(x.t, x.u))
    return chunked_sum(LazyCategorical(x.h, x.w), lambda q, i, j: stream.loss(q, evidence.chunk(i, j))[0].sum()) / len(x.h)


def naive(x: Tensors, method: str) -> Tensor:
    logq, logp = (torch.log_softmax((h @ w.T).float(), -1) for h, w in ((x.h, x.w), (x.t, x.u)))
    return (logq.exp() * (logq - logp)).sum() / len(x.h)


def liger(x: Tensors, method: str) -> Tensor:
    from liger_kernel.transformers.functional import liger_fused_linear_jsd

    return liger_fused_linear_jsd(x.h, x.w, x.t, x.u, None, 1.0, -100, 1.0)


def products(x: Tensors) -> None:
    """The four that nobody can do without."""
    grad = x.h.detach() @ x.w.detach().T
    x.t @ x.u.T
    grad @ x.w.detach()
    grad.T @ x.h.detach()


@kept_chunks()
def measure(args: argparse.Namespace) -> None:
    """One contestant in this process."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    x = Tensors(args)
    memory = lambda: (
        torch.cuda.max_memory_allocated() / 2**20
        if args.device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    )
    before = memory()

    def step() -> None:
        x.h.grad = x.w.grad = None
        globals()[args.who](x, args.method).backward()

    taken = median_seconds(step, args.device, args.repeats)
    found = {"seconds": taken, "mib": memory() - before}
    if args.method == "rkl":
        exact = exact_gradient(x)
        found["error"] = float((x.h.grad[:CHECKED].double().cpu() * len(x.h) - exact).norm() / exact.norm())
    fits = args.tokens * args.vocab < 2**31
    found["floor"] = median_seconds(lambda: products(x), args.device, args.repeats) if fits else None
    tell(found)


def exact_gradient(x: Tensors) -> Tensor:
    """dL/dhidden of the first tokens' summed reverse KL in fp64, on the CPU."""
    h, w, t, u = (z.detach().double().cpu() for z in (x.h[:CHECKED], x.w, x.t[:CHECKED], x.u))
    h.requires_grad_()
    logq, logp = torch.log_softmax(h @ w.T, -1), torch.log_softmax(t @ u.T, -1)
    return torch.autograd.grad((logq.exp() * (logq - logp)).sum(), h)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--who", default="")
    parser.add_argument("--method", default="rkl")
    args = parser.parse_args()
    if args.who:
        return measure(args)
    contestants = [("ours", m) for m in args.methods] + [("naive", "rkl")]
    contestants += [("liger", "rkl")] if importlib.util.find_spec("liger_kernel") and args.device == "cuda" else []
    sizes = ", ".join(f"{name} {getattr(args, name):,}" for name in SIZES)
    print(f"{date.today()}, {chip(args.device)}; {sizes}\n")
    print("| who | method | seconds | times the four products | MiB | error of the gradient |\n|---|---|---|---|---|---|")
    for who, method in contestants:
        options = {n: getattr(args, n) for n in ("device", *SIZES)}
        try:
            found = contestant("tests.bench.head", {"who": who, "method": method} | options)
        except RuntimeError as error:  # out of memory, most of the time
            print(f"| {who} | {method} | failed: {str(error).strip().splitlines()[-1]} |", flush=True)
            continue
        times = f"{found['seconds'] / found['floor']:.2f}" if found["floor"] else ""
        error = f"{found['error']:.1e}" if "error" in found else ""
        print(f"| {who} | {method} | {found['seconds']:.3f} | {times} | {found['mib']:.0f} | {error} |", flush=True)


if __name__ == "__main__":
    main()
