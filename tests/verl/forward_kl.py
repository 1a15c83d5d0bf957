"""verl's own forward_kl_topk beside our forward KL on the teacher's raw top k, on the same logits; run in verl's environment.

python -m tests.verl.forward_kl method.json: (verl's loss, ours, largest difference of the gradients of the logits, largest gradient)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from verl.trainer.distillation.fsdp.losses import compute_forward_kl_topk

from opd_steps.objectives.aggregate import weights_N
from opd_steps.objectives.chunk import Term
from opd_steps.verl import columns
from opd_steps.verl.loss import LOSS, Loss, decisions
from tests.verl.engine import nested

PROMPTS, RESPONSES, V, K = [3, 1, 4], [2, 6, 5], 40, 7


def rows() -> dict:
    """Ragged rows, and what a teacher's server says of each of their tokens."""
    draw = torch.Generator().manual_seed(0)
    tokens = lambda lengths: [torch.randint(0, V, (n,), generator=draw) for n in lengths]
    prompts, responses = tokens(PROMPTS), tokens(RESPONSES)
    whole = [torch.cat([p, r]) for p, r in zip(prompts, responses, strict=True)]
    said = [torch.randn(len(ids), V, generator=draw).log_softmax(-1).topk(K) for ids in whole]
    one = lambda of: torch.zeros(len(of), 1, dtype=of.dtype)  # the sampled token's, which this divergence does not ask
    return {
        "input_ids": nested(whole),
        "responses": nested(responses),
        "response_mask": nested([torch.ones_like(r) for r in responses]),
        "rollout_log_probs": nested([torch.zeros(len(r)) for r in responses]),
        "teacher_logprobs": nested([torch.cat([one(top.values), top.values], 1) for top in said]),
        "teacher_ids": nested([torch.cat([one(top.indices), top.indices], 1) for top in said]),
        "batch_num_tokens": sum(RESPONSES),
        "dp_size": 1,
    }


def main(method: dict) -> None:
    data = rows()
    at_N, length_B = decisions(data)
    scale_N = weights_N(method["aggregate"], length_B, len(length_B), len(at_N), max(RESPONSES))
    data |= columns.constants([Term(scale_N, torch.ones(len(at_N), dtype=torch.bool), None, len(at_N))], length_B)
    logits = torch.randn(1, len(data["input_ids"].values()), V, generator=torch.Generator().manual_seed(1))
    found = []
    for theirs in (True, False):
        given = logits.clone().requires_grad_()
        if theirs:
            top = [nested([row[:, 1:] for row in data[name].unbind()]) for name in ("teacher_logprobs", "teacher_ids")]
            how = SimpleNamespace(distillation_loss=SimpleNamespace(log_prob_min_clamp=None))
            loss = compute_forward_kl_topk(given, *top, how, "thd")["distillation_losses"][0, at_N].mean()
        else:
            loss = Loss(method, {"teacher": None})(student_logits=given, data=data)[LOSS].sum()
        loss.backward()
        found.append((float(loss), given.grad))
    (a, of_a), (b, of_b) = found
    print(json.dumps([a, b, float((of_a - of_b).abs().max()), float(of_a.abs().max())]))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
