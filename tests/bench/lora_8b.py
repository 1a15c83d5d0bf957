"""Steps of on-policy distillation by an adapter at the shape of Qwen3-8B: random weights in bf16, one 80 GB GPU.

    python -m tests.bench.lora_8b                 student and a teacher of the same size, about 33 GB of weights
    python -m tests.bench.lora_8b --teacher start     the student without its adapter: one model in memory
    python -m tests.bench.lora_8b --tune qlora --teacher 32b --micro_batch 1    the student in four bits, Qwen3-32B's shape teaches it: 72 GB
    python -m tests.bench.lora_8b --tiny          the same code on a small model, on a CPU

Reverse KL over the whole vocabulary, `micro_batch` rows at once. Printed per step: seconds of sampling and of the update, loss, how far the
sampler is from the trainer; then what is trained, what a checkpoint would hold, and the peak of memory.
"""

from __future__ import annotations

import argparse
import datetime
import resource
import time
from dataclasses import asdict

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.graph.options import Optim
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.batch import Batch
from opd_steps.tune.lora import Lora
from opd_steps.tune.qlora import Qlora
from tests.bench.measuring import chip
from tests.bench.opd_modes import Tokens

QWEN3_8B = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
QWEN3_8B |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
QWEN3_32B = QWEN3_8B | {"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY |= {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512}
TUNES = {"lora": Lora, "qlora": Qlora}
EXACT = {"signal": "rkl", "support": "full", "estimator": "exact"}


def model(shape: dict, seed: int, device: str, positions: int) -> Qwen3ForCausalLM:
    """Made in bf16 where it stays: in fp32 two of them would not fit."""
    torch.manual_seed(seed)
    tokens = {"pad_token_id": 0, "eos_token_id": None, "bos_token_id": None}  # no row ends by itself
    config = Qwen3Config(
        **shape, **tokens, tie_word_embeddings=False, max_position_embeddings=positions, initializer_range=0.02
    )
    with torch.device(device):
        made = Qwen3ForCausalLM._from_config(config, dtype=torch.bfloat16)
    return made.eval().requires_grad_(False)


def peak(device: str) -> float:
    """GiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--teacher", choices=("other", "start", "32b"), default="other")
    parser.add_argument("--tune", choices=TUNES, default="lora")
    for name, value in {"steps": 3, "rows": 8, "micro_batch": 2, "prompt": 256, "completion": 256, "r": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if args.tiny:
        args.prompt, args.completion, args.r = 16, 16, 4
    shape, device = (TINY, "cpu") if args.tiny else (QWEN3_8B, "cuda")
    print(f"{datetime.date.today()}, {chip(device)}; {vars(args)}")

    student = model(shape, 0, device, args.prompt + args.completion)
    frozen = sum(p.numel() for p in student.parameters())
    TUNES[args.tune](r=args.r, alpha=2.0 * args.r).adapt(student, seed=0)
    adapter = [p for p in student.parameters() if p.requires_grad]
    for p in adapter:  # as after some training: at its start it is the model itself
        p.data += 0.002 * torch.randn(p.shape, device=p.device)
    sampling = {"max_new_tokens": args.completion, "batch": args.rows, "numerics": Numerics("bfloat16", "bfloat16")}
    policy = LMPolicy(student, Tokens(shape["vocab_size"]), **sampling)
    teacher = policy.begun() if args.teacher == "start" else None
    if device == "cuda":
        torch.cuda.empty_cache()
    larger = QWEN3_32B if args.teacher == "32b" and not args.tiny else shape
    teacher = teacher or LMPolicy(model(larger, 1, device, args.prompt + args.completion), policy.tokenizer, **sampling)
    ready = peak(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    learner = Learner(policy, Objective.from_method(merge(Method, EXACT, "bench"), args.completion), {"teacher": teacher})
    optim = asdict(Optim(lr=1e-4))
    learner.start("", {"steps": args.steps, "optim": optim, "micro_batch": args.micro_batch}, seed=0)

    draw = torch.Generator().manual_seed(0)
    for step in range(1, args.steps + 1):
        contexts = torch.randint(2, shape["vocab_size"] - 2, (args.rows, args.prompt), generator=draw).tolist()
        begun = time.perf_counter()
        rows = policy.rollout(contexts, range(args.rows), range(args.rows * step, args.rows * (step + 1)), step - 1)
        sampled = time.perf_counter()
        found = learner.update(step, Batch(rows), allows=lambda figures: True)
        if device == "cuda":
            torch.cuda.synchronize()
        updated = time.perf_counter()
        shown = {name: f"{found[f'{name}']:.4g}" for name in ("loss", "grad_norm", "sampler_gap", "sampler_gap_max")}
        print(f"step {step}: sampling {sampled - begun:.2f} s, update {updated - sampled:.2f} s, {shown}", flush=True)

    trained = sum(p.numel() for p in adapter)
    held = sum(t.numel() * t.element_size() for state in learner.optimizer.state.values() for t in state.values())
    print(f"{frozen / 1e6:.1f} M frozen weights, {trained / 1e6:.2f} M trained in fp32")
    print(f"a checkpoint holds {(4 * trained + held) / 2**20:.1f} MiB")
    whose = "of the GPU" if device == "cuda" else "of the process, libraries included"
    print(f"peak {peak(device):.2f} GiB {whose}; {ready:.2f} while the models were made")


if __name__ == "__main__":
    main()
