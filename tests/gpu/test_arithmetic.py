"""On a GPU: decoding, log-probs and gradients are those of the CPU, within what fp32 and bf16 can hold."""

from __future__ import annotations

import pytest
import torch

from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32, Numerics, dtype_of, recompute_blocks
from opd_steps.nouns.trajectory import Trajectory
from tests.unit.test_rollout_lean import KINDS, PROMPTS, make
from tests.unit.tiny import FakeTokenizer, method, qwen

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
VOCAB, BUDGET = 600, 12
FULL = {"support": "full", "signal": "rkl", "estimator": "exact"}
METHODS = {
    "rkl": FULL,
    "jsd": {**FULL, "signal": "jsd"},
    "topk": {"support": {"name": "teacher_topk", "k": 8}, "signal": "fkl", "estimator": "exact"},
    "neg_kl": {"support": "sampled", "baseline": "neg_kl"},
    "tip": {**FULL, "weight": ["tip"]},
}


SHORT = Numerics("bfloat16", "bfloat16")
MIXED = Numerics(compute="bfloat16", recompute=True)


def policy(seed: int, device: str, numerics: Numerics = FP32, layers: int = 2) -> LMPolicy:
    model = qwen(VOCAB, seed, layers=layers).to(device, dtype_of(numerics.weights)).eval()
    if numerics.recompute:
        recompute_blocks(model)
    return LMPolicy(model, FakeTokenizer(VOCAB), numerics=numerics, max_new_tokens=BUDGET)


def rows(count: int = 7) -> Trajectory:
    generator = torch.Generator().manual_seed(1)
    draw = lambda n: torch.randint(1, VOCAB - 2, (n,), generator=generator)
    return Trajectory(
        [draw(3 + i % 3).tolist() for i in range(count)], [draw(4 + i) for i in range(count)], torch.arange(count)
    )


def gradient(device: str, numerics: Numerics, row: dict, micro_batch: int) -> torch.Tensor:
    student, teacher = policy(0, device, numerics), policy(1, device, Numerics.frozen({"dtype": numerics.compute}), layers=3)
    objective = Objective.from_method(method(**row), BUDGET)
    objective.backward(student, rows(), {}, {"teacher": teacher}, micro_batch)
    return torch.cat([p.grad.flatten().float().cpu() for p in student.model.parameters()])


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_lean_decoder_says_what_the_model_says(kind, prompts):
    from opd_steps.rollout.local import decode

    model = make(kind).cuda()
    args = {"max_new_tokens": 9, "temperature": 1.0, "ends": [0], "pad_id": 1}
    tokens, logp, _ = decode(model, PROMPTS[prompts], [1, 2, 3], **args)
    for context, said, found in zip(PROMPTS[prompts], tokens, logp, strict=True):
        ids = torch.tensor([[*context, *said.tolist()]], device="cuda")
        whole = model(ids).logits[0, len(context) - 1 : -1].log_softmax(-1)
        expected = whole.gather(-1, said.cuda()[:, None])[:, 0]
        assert (expected.cpu() - found).abs().max() < 1e-4


@pytest.mark.parametrize(("numerics", "most"), [(FP32, 1e-4), (SHORT, 0.5), (MIXED, 0.5)], ids=["fp32", "bf16", "mixed"])
@torch.no_grad()
def test_sampler_and_trainer_agree_on_log_probs(numerics, most):
    who = policy(0, "cuda", numerics)
    made = who.rollout([[1, 2, 3], [4, 5], [6, 7, 8, 9]] * 5, range(15), range(15))
    said = who.dist(made).chunk(0, len(made.action_N)).logp(made.action_N.cuda()).cpu()
    assert (said - made.logp_N).abs().max() < most


@pytest.mark.parametrize("micro_batch", [7, 2])
@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_those_of_the_cpu(name, micro_batch):
    expected = gradient("cpu", FP32, METHODS[name], 7)
    found = gradient("cuda", FP32, METHODS[name], micro_batch)
    assert (found - expected).norm() / expected.norm() < 1e-4
    for numerics in (SHORT, MIXED):
        rough = gradient("cuda", numerics, METHODS[name], micro_batch)
        assert torch.cosine_similarity(rough, expected, dim=0) > 0.99


@pytest.mark.parametrize("numerics", [FP32, MIXED], ids=["fp32", "mixed"])
def test_equal_runs_give_equal_bits(numerics):
    first, again = (gradient("cuda", numerics, FULL, 3) for _ in range(2))
    assert torch.equal(first, again)
