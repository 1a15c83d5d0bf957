"""CPU seconds of speculative decoding by a drafter that has learned nothing: how much the target and it read for each verification.

python -m tests.bench.speculative [--width 256 --vocab 4096 --layers 8 --prompt 128 --answer 128 --rows 8 --block 5]
"""

from __future__ import annotations

import argparse
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.models.bases import Base
from opd_steps.models.drafter_policy import DrafterPolicy
from opd_steps.models.families.drafter import Drafter
from opd_steps.models.lm_policy import LMPolicy
from tests.unit.tiny import FakeTokenizer

SIZES = {"width": 256, "vocab": 4096, "layers": 8, "prompt": 128, "answer": 128, "rows": 8, "block": 5}


def made(args: argparse.Namespace) -> DrafterPolicy:
    torch.manual_seed(0)
    shape = {
        "hidden_size": args.width,
        "intermediate_size": 2 * args.width,
        "head_dim": args.width // 4,
        "initializer_range": 0.1,
    }
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": args.layers}
    config = Qwen3Config(vocab_size=args.vocab, max_position_embeddings=args.prompt + args.answer, **shape, **heads)
    model = Qwen3ForCausalLM(config).requires_grad_(False).eval()
    target = LMPolicy(model, FakeTokenizer(args.vocab), temperature=0.0, max_new_tokens=args.answer)
    policy = Drafter(block=args.block).fresh(target, Base("x", "", "y"), 0)
    policy.ends = target.ends = (args.vocab - 1,)
    policy.sample_by({"temperature": 0.0, "max_new_tokens": args.answer})
    return policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = made(args)
    prompts = torch.randint(1, args.vocab - 2, (args.rows, args.prompt), generator=torch.Generator().manual_seed(1)).tolist()
    policy.rollout(prompts[:2], [0] * 2, [0] * 2)
    begun = time.process_time()
    rows = policy.rollout(prompts, range(args.rows), range(args.rows))
    print(
        f"{time.process_time() - begun:.3g} CPU s, {sum(map(len, rows.extra['anchors']))} verifications, {len(rows.action_N)} tokens"
    )


if __name__ == "__main__":
    main()
