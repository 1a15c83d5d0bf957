"""A ragged batch of SmolLM2's shape, read padded, sorted into passes of so many tokens, and without padding.

    python -m tests.bench.packing [--runs 3]

CPU seconds of a forward and backward pass over 16 rows of 12 to 120 tokens, a few long ones among many short, next-token loss, fp32, one
thread, random weights; the variants in turn, medians. *Read*: tokens that go through the model, padding included, of *own* ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import date

import torch

from opd_steps.loop.passes import Tokens
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.heard import read_over
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.steps._training import mle_objective
from tests.bench.measuring import chip
from tests.bench.opd_modes import Work, model
from tests.unit.tiny import FakeTokenizer

ROWS, VOCAB = 16, 49_152
HOW = {
    "16 rows, padded": (ROWS, False),
    "4 rows, padded": (4, False),
    "480 tokens, padded": (Tokens(480), False),
    "480 tokens, packed": (Tokens(480, packed=True), True),
    "16 rows, packed": (ROWS, True),
}


def rows() -> Trajectory:
    draw = rng("packing")
    lengths = (12 + 108 * draw.random(ROWS) ** 3).astype(int)
    ids = [torch.tensor(draw.integers(1, VOCAB, n)) for n in lengths]
    return Trajectory([t[:1].tolist() for t in ids], [t[1:] for t in ids], torch.arange(ROWS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    batch, student = rows(), model(Work(vocab=VOCAB, shape="135m-135m"), "student")
    times, read = {name: [] for name in HOW}, {}
    mle_objective().backward(LMPolicy(student, FakeTokenizer(VOCAB)), batch.rows([0, 1]), {}, {}, 1)  # a first pass is slower
    for _ in range(args.runs):
        for name, (size, packed) in HOW.items():
            seen: list[int] = []
            watched = student.get_input_embeddings().register_forward_hook(
                lambda _, ids, out, seen=seen: seen.append(ids[0].numel())
            )
            policy = LMPolicy(student, FakeTokenizer(VOCAB), numerics=Numerics(packed=packed))
            begun = time.process_time()
            mle_objective().backward(policy, batch, {}, {}, size)
            times[name].append(time.process_time() - begun)
            student.zero_grad(set_to_none=True)
            watched.remove()
            read[name] = sum(seen)
    print(f"{date.today()}, {chip('cpu')}, one thread; {ROWS} rows, {sum(read_over(batch)):,} own tokens\n")
    print("| a pass | tokens read | CPU s |\n|---|---|---|")
    for name, found in times.items():
        print(f"| {name} | {read[name]:,} | {statistics.median(found):.2f} |")


if __name__ == "__main__":
    main()
