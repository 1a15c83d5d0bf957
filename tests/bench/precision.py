"""What bf16 costs a real model: SmolLM2-135M, fp32 against bf16 products of fp32 weights and against bf16 weights.

    python -m tests.bench.precision [folder of a checkpoint] [--steps 20]

Next-token loss on lines of this repository's README, one micro-batch a step. First the gradient of the first step: its cosine with that of
fp32, CPU seconds. Then AdamW at lr 1e-6: of the weights that ever had a gradient, the share that has moved.
"""

from __future__ import annotations

import argparse
import time
from datetime import date
from pathlib import Path

import torch

from opd_steps.config.merge import merge
from opd_steps.graph.options import Optim
from opd_steps.loop.optim import apply_gradient, make_optimizer
from opd_steps.models.folder import read_model, read_tokenizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import Numerics, recompute_blocks
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.steps._training import mle_objective
from tests.bench.measuring import ROOT, chip

HOW = {
    "fp32": Numerics(),
    "bf16 products, fp32 weights": Numerics(compute="bfloat16"),
    "the same, blocks recomputed": Numerics(compute="bfloat16", recompute=True),
    "bf16 weights": Numerics(weights="bfloat16", compute="bfloat16"),
}
ROWS, TOKENS = 1, 48
SMOLLM2 = Path.home() / ".cache/distillery/smollm2"


class Case:
    def __init__(self, folder: Path, numerics: Numerics):
        model = read_model(str(folder), dtype=numerics.weights).eval()
        if numerics.recompute:
            recompute_blocks(model)
        self.policy = LMPolicy(model, read_tokenizer(str(folder)), numerics=numerics)
        ids = self.policy.tokenizer((ROOT / "README.md").read_text())["input_ids"]
        self.ids = [ids[i : i + TOKENS] for i in range(0, len(ids) - TOKENS, TOKENS)]

    def backward(self, step: int) -> dict[str, torch.Tensor]:
        texts = [self.ids[(step * ROWS + k) % len(self.ids)] for k in range(ROWS)]
        rows = Trajectory([t[:1] for t in texts], [torch.tensor(t[1:]) for t in texts], torch.arange(ROWS))
        mle_objective().backward(self.policy, rows, {}, {}, ROWS)
        return {name: p.grad for name, p in self.policy.model.named_parameters()}

    def moved(self, steps: int) -> float:
        params = list(self.policy.model.parameters())
        options = merge(Optim, {"lr": 1e-6}, "bench")
        optimizer = make_optimizer(self.policy.model, options)
        before, touched = [p.detach().clone() for p in params], [torch.zeros_like(p, dtype=torch.bool) for p in params]
        for step in range(steps):
            self.backward(step)
            for p, seen in zip(params, touched, strict=True):
                seen |= p.grad != 0
            apply_gradient(optimizer, step + 1, steps, options)
            optimizer.zero_grad(set_to_none=True)
        count = sum(int(((p != old) & seen).sum()) for p, old, seen in zip(params, before, touched, strict=True))
        return count / sum(int(seen.sum()) for seen in touched)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=SMOLLM2)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{date.today()}, {chip()}, one thread; {ROWS} row of {TOKENS} tokens\n")
    print("| who | CPU s a backward pass | cosine with fp32 | moved |\n|---|---|---|---|")
    exact = None
    for name, numerics in HOW.items():
        case = Case(args.folder, numerics)
        case.backward(0)
        case.policy.model.zero_grad()
        begun = time.process_time()
        found = torch.cat([g.flatten().float() for g in case.backward(0).values()])
        taken = time.process_time() - begun
        exact = found if exact is None else exact
        cosine = torch.cosine_similarity(found.double(), exact.double(), dim=0)
        case.policy.model.zero_grad()
        moved = f"{case.moved(args.steps):.4f}" if not numerics.recompute else ""
        print(f"| {name} | {taken:.2f} | {cosine:.6f} | {moved} |", flush=True)


if __name__ == "__main__":
    main()
