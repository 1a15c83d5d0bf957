"""What a step holds at its most: the estimate against live tensors on a CPU, and against peaks that an H100 has shown."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from opd_steps.config.merge import merge
from opd_steps.graph.cost.distilling import tensors
from opd_steps.graph.cost.memory import judged
from opd_steps.graph.cost.needs import FEW, LIBRARIES, Needs
from opd_steps.graph.cost.rows import Length
from opd_steps.graph.cost.shape import Shape, shape_of
from opd_steps.graph.cost.work import Held, Read, Work
from opd_steps.graph.method import Method
from opd_steps.graph.options import Optim
from opd_steps.loop import chunked
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import Numerics, dtype_of, recompute_blocks
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.dist import LazyCategorical
from opd_steps.objectives.chunk import Figures, Term, chunk_loss
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.supports import _selected
from opd_steps.rollout import products
from opd_steps.tune.lora import Lora
from tests.bench import head
from tests.bench.opd_modes import Tokens
from tests.unit.live_bytes import LiveBytes

EXACT = {"support": "full", "signal": "rkl", "estimator": "exact"}
SMALL = {"model_type": "qwen3", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 8}
SMALL |= {
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 4096,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
SMALL |= {"pad_token_id": 0, "eos_token_id": None, "bos_token_id": None}
REAL = {
    "135m": (576, 1536, 30, 9, 3, 64, 49_152),
    "0.6b": (1024, 3072, 28, 16, 8, 128, 151_936),
    "1.7b": (2048, 6144, 28, 16, 8, 128, 151_936),
    "8b": (4096, 12_288, 36, 32, 8, 128, 151_936),
    "32b": (5120, 25_600, 64, 64, 8, 128, 151_936),
}
SMOLLM2, QWEN3 = ("135m", "135m", 64, 64, Length(56, 64, 120)), ("0.6b", "1.7b", 32, 8, Length(256, 256, 512))
H100 = [  # docs/speed.md: student, teacher, rows, at once, lengths, dtype, weights, recompute, MiB
    (*SMOLLM2, "bfloat16", "bfloat16", False, 9_179),
    (*SMOLLM2, "float32", "float32", False, 16_567),
    (*SMOLLM2, "bfloat16", "float32", False, 11_529),
    (*QWEN3, "bfloat16", "bfloat16", False, 17_944),
    (*QWEN3, "bfloat16", "float32", False, 24_763),
]


def needs(shapes: list[Shape], rows: int, at_once: int, length: Length, dtype: str, weights: str, gpu: int, **more) -> Needs:
    options = {
        "dtype": dtype,
        "weights": weights,
        "tune": {"name": "full"},
        "optim": {"eight_bit": False},
        "resources": {"gpu": gpu, "gpu_mem_gb": 80},
        **more,
    }
    work = Work(("student",), (Held("teacher", dtype),), samples="student", drawn=rows, prompts=rows, at_once=rows)
    named = dict(zip(("student", "teacher"), shapes, strict=True))
    return Needs(options, replace(work, read=Read(at_once, rows, 6)), named, length)


@pytest.mark.parametrize(("student", "teacher", "rows", "at_once", "length", "dtype", "weights", "recompute", "mib"), H100)
def test_peaks_of_an_h100(student, teacher, rows, at_once, length, dtype, weights, recompute, mib):
    shapes = [Shape("qwen3", *REAL[name], tied=True, longest=1024) for name in (student, teacher)]
    found = judged(needs(shapes, rows, at_once, length, dtype, weights, 1, recompute=recompute))
    assert found.total == pytest.approx(mib * 2**20, rel=0.03)


@pytest.mark.parametrize(
    ("teacher", "at_once", "answer", "tune", "gib"),
    [("8b", 2, 256, {"name": "lora", "r": 32}, 43.56), ("32b", 1, 128, {"name": "qlora", "r": 32, "block": 64}, 72.59)],
)
def test_peaks_of_an_h100_with_adapters(teacher, at_once, answer, tune, gib):
    shapes = [Shape("qwen3", *REAL[name], tied=False, longest=1024) for name in ("8b", teacher)]
    length = Length(256, answer, 256 + answer)
    found = judged(needs(shapes, 8, at_once, length, "bfloat16", "bfloat16", 1, tune=tune))
    assert found.total == pytest.approx(gib * 2**30, rel=0.03)


def test_a_model_is_whole_until_it_is_in_four_bits():
    """Where no teacher is as large, that is when most is needed."""
    shapes = [Shape("qwen3", *REAL[name], tied=False, longest=1024) for name in ("8b", "0.6b")]
    found = judged(
        needs(shapes, 8, 1, Length(64, 64, 128), "bfloat16", "bfloat16", 1, tune={"name": "qlora", "r": 8, "block": 64})
    )
    assert found.phase == "loading" and "teachers" not in found.parts
    assert 16.3e9 < found.parts["a whole model"] < 16.5e9 and 6.4e9 < found.parts["weights"] < 6.6e9


def most(dtype: str, weights: str, recompute: bool, rank: int) -> int:
    """Bytes of tensors that are alive at once in the second step of a training."""
    fields = {k: v for k, v in SMALL.items() if k != "model_type"}
    make = lambda dtype: AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **fields), dtype=dtype_of(dtype)).eval()
    with LiveBytes() as live:
        own, other = make(weights), make(dtype).requires_grad_(False)
        if rank:
            Lora(r=rank).adapt(own.requires_grad_(False), 0)
        if recompute:
            recompute_blocks(own)
        student = LMPolicy(own, Tokens(4096), numerics=Numerics(weights, dtype), max_new_tokens=60)
        teacher = LMPolicy(other, Tokens(4096), numerics=Numerics(dtype, dtype))
        learner = Learner(student, Objective.from_method(merge(Method, EXACT, "test"), 60), {"teacher": teacher})
        learner.start("", {"steps": 3, "optim": asdict(Optim()), "micro_batch": 4}, 0)
        for step in (1, 2):
            live.peak = live.now
            rows = student.rollout(torch.randint(2, 4000, (16, 40)).tolist(), range(16), range(16), step - 1)
            learner.update(step, Batch(rows), allows=lambda figures: True)
    return live.peak


@pytest.mark.parametrize(
    ("dtype", "weights", "recompute", "rank"),
    [
        ("float32", "float32", False, 0),
        ("bfloat16", "float32", False, 0),
        ("bfloat16", "float32", True, 0),
        ("float32", "float32", True, 8),
        ("bfloat16", "bfloat16", False, 8),
    ],
)
def test_live_tensors_of_a_training_step(dtype, weights, recompute, rank):
    tune = {"name": "lora", "r": rank} if rank else {"name": "full"}
    asked = needs([shape_of(SMALL)] * 2, 16, 4, Length(40, 60, 100), dtype, weights, 0, recompute=recompute, tune=tune)
    assert judged(asked).total - LIBRARIES == pytest.approx(most(dtype, weights, recompute, rank), rel=0.1)


FORWARD, SKEW = (
    {"support": "full", "signal": "fkl", "estimator": "exact"},
    {"support": "full", "signal": "skew", "estimator": "exact"},
)


def test_figures_of_other_files_are_theirs():
    """The plan must not import torch, so it says them again."""
    assert FEW == products.TOKENS


@pytest.mark.parametrize("method", [*head.METHODS.values(), FORWARD, SKEW, {"estimator": "mle"}])
def test_tensors_of_the_head(method, monkeypatch):
    """As a GPU computes it: without tiles. No less than there are; as many where a divergence is over the whole vocabulary."""
    monkeypatch.setattr(_selected, "TILE", 1 << 40)
    monkeypatch.setattr(chunked, "decisions", lambda vocab, cuda: (1 << 20) // vocab)
    count, vocab = 512, 8192
    x = head.Tensors(argparse.Namespace(tokens=count, hidden=8, teacher=8, vocab=vocab, device="cpu"))
    options = merge(Method, method, "test")
    known = {"sampler_logp_N": torch.zeros(count), "outcome_N": torch.ones(count), "step_N": torch.arange(count)}
    seen = Evidence(
        x.action, **known, owner_N=torch.zeros(count, dtype=torch.long), others={"teacher": LazyCategorical(x.t, x.u)}
    )
    student, streams = LazyCategorical(x.h, x.w), Objective.from_method(options, 64).streams
    term = Term(torch.ones(count), torch.ones(count, dtype=torch.bool), None, count)
    with LiveBytes() as live:
        figures = Figures(count)
        loss_of = lambda q, i, j: chunk_loss(streams, [term.cut(i, j)], q, seen.chunk(i, j), figures)
        chunked.chunked_sum(student, loss_of).backward()
    found = (live.peak - 4 * 8 * (vocab + count)) / (4 * (1 << 20))
    assert found * 0.97 < tensors(options) < found * 1.6
