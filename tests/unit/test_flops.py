"""Model FLOPs: as torch counts a real model's operations, and by hand; what is computed twice counts once."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import cards, flops
from tests.unit.test_loop_terms import policies, rows_of
from tests.unit.test_one_forward import PLAIN, SURVEYED, passes
from tests.unit.tiny import FakeTokenizer, qwen

VOCAB, WIDTH, INNER, LAYERS, QUERY, KV = 24, 32, 64, 2, 4 * 8, 2 * 8  # of tiny.qwen
BLOCKS = LAYERS * (2 * WIDTH * QUERY + 2 * WIDTH * KV + 3 * WIDTH * INNER)


@pytest.fixture(autouse=True)
def none_yet():
    flops.done.clear()
    yield
    flops.done.clear()


def policy_of(base=None, **numerics) -> LMPolicy:
    return LMPolicy(qwen(VOCAB), FakeTokenizer(VOCAB), base=base, numerics=Numerics(**numerics))


def rows(contexts: list[int], actions: list[int]) -> Trajectory:
    tokens = [torch.arange(n) % VOCAB for n in actions]
    return Trajectory([[1] * n for n in contexts], tokens, torch.arange(len(actions)))


def counted(policy: LMPolicy, read: Trajectory, gradient: bool) -> int:
    """What torch counts. It knows no fused attention of a CPU: here that is made of products."""
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(gradient), sdpa_kernel(SDPBackend.MATH):
        dist = policy.dist(read)
        loss = dist.chunk(0, len(dist)).logp_NV.sum()
        if gradient:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("gradient", [False, True], ids=["read", "learned"])
@pytest.mark.parametrize(("context", "answer"), [(1, 60), (40, 8), (3, 1)])
def test_they_are_those_that_torch_counts(context, answer, gradient):
    found = counted(policy_of(), rows([context] * 4, [answer] * 4), gradient)
    assert flops.done["float32"] == pytest.approx(found, rel=0.01) and found > 0


def test_of_frozen_weights_torch_counts_two_passes():
    """A gradient goes through them, as it does to adapters; those of attention are computed all the same."""
    policy = policy_of(base=object())
    policy.model.requires_grad_(False)
    policy.model.enable_input_require_grads()
    found = counted(policy, rows([20] * 4, [30] * 4), gradient=True)
    assert flops.done["float32"] == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("packed", [False, True])
def test_padding_is_no_work(packed):
    """By hand: 2 N a token and 4 L H Q T, the head at decisions."""
    with torch.no_grad():
        policy_of(compute="bfloat16", packed=packed).dist(rows([3, 10], [5, 2]))
    lengths = (7, 11)
    by_hand = 2 * (sum(lengths) * BLOCKS + 7 * VOCAB * WIDTH) + 4 * LAYERS * QUERY * sum(n * n for n in lengths)
    assert flops.done == {"bfloat16": by_hand}


@pytest.mark.parametrize("method", [PLAIN, SURVEYED], ids=["plain", "surveyed"])
def test_a_batch_in_parts_takes_what_it_takes_at_once(method):
    """Also where the student's parts are read twice. Of three passes, the teachers' are two."""
    found = []
    for micro_batch in (64, 3, 2):
        flops.done.clear()
        passes(method, micro_batch)
        found.append(flops.done["float32"])
    model = policies()["student"]
    flops.done.clear()
    with torch.no_grad():
        model.dist(rows_of(model))
    assert found == [(3 + 2) * flops.done["float32"]] * 3 and flops.UNKNOWN not in flops.done


def test_a_model_of_unknown_form_is_said_to_be(monkeypatch):
    policy = policy_of()
    monkeypatch.setattr(type(policy.model.config), "model_type", "mamba")
    policy.dist(rows([3], [4]))
    assert flops.done == {flops.UNKNOWN: 1}


def test_a_learner_whom_nobody_counts_is_unknown(monkeypatch):
    """A policy that is no language model, beside teachers that are."""
    count = LMPolicy._count
    monkeypatch.setattr(LMPolicy, "_count", lambda self, *read: None if torch.is_grad_enabled() else count(self, *read))
    passes(PLAIN, 3)
    assert flops.done[flops.UNKNOWN] == 3 and flops.done["float32"] > 0


def test_peaks_are_found_by_the_names_that_cuda_says():
    peak = lambda name: (cards.peak(name) or {}).get("bfloat16", 0) / 1e12
    assert peak("NVIDIA A100-SXM4-80GB") == peak("NVIDIA A100 80GB PCIe") == 312
    assert peak("NVIDIA H100 80GB HBM3") == peak("NVIDIA H200") == peak("NVIDIA GH200 480GB") == 989
    assert peak("NVIDIA H100 PCIe") == 756 and peak("NVIDIA H100 NVL") == 835
    assert (peak("NVIDIA L4"), peak("NVIDIA L40S"), peak("NVIDIA GeForce RTX 4090"), peak("NVIDIA B200")) == (
        121,
        362,
        165,
        2250,
    )
    assert cards.peak("NVIDIA A100-SXM4-80GB MIG 1g.10gb") is cards.peak("NVIDIA A10") is cards.peak("Tesla T4") is None
    assert cards.peak("NVIDIA A100-SXM4-40GB")["float32"] == 19.5e12
