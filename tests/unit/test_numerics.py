"""fp32 weights computed with in bf16, blocks recomputed, and what files of a trained model hold."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.graph.options import Optim
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.loop.optim import apply_gradient, make_optimizer
from opd_steps.models.folder import save_model
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.numerics import FP32, Numerics, cast, recompute_blocks
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from tests.unit.test_teacher_checks import NODES, build
from tests.unit.tiny import FakeTokenizer, method, qwen

VOCAB, BUDGET = 64, 8
FULL = method(support="full", signal="rkl", estimator="exact")
BF16 = Numerics(compute="bfloat16")


def policy(numerics: Numerics = FP32, seed: int = 0, tie: bool = True, layers: int = 4) -> LMPolicy:
    model = qwen(VOCAB, seed, tie, layers).to(getattr(torch, numerics.weights)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.3 if p.ndim > 1 else 1.0)  # of the size that trained weights have
    if numerics.recompute:
        recompute_blocks(model)
    return LMPolicy(model, FakeTokenizer(VOCAB), numerics=numerics, max_new_tokens=BUDGET)


def rows(count: int = 6, length: int = 12) -> Trajectory:
    generator = torch.Generator().manual_seed(1)
    draw = lambda n: torch.randint(1, VOCAB - 2, (n,), generator=generator)
    return Trajectory(
        [draw(3 + i % 3).tolist() for i in range(count)], [draw(length) for _ in range(count)], torch.arange(count)
    )


def backward(who: LMPolicy, micro_batch: int = 3) -> dict[str, torch.Tensor]:
    teacher = policy(seed=1)
    Objective.from_method(FULL, BUDGET).backward(who, rows(), {}, {"teacher": teacher}, micro_batch)
    return {name: p.grad for name, p in who.model.named_parameters()}


def flat(tensors) -> torch.Tensor:
    return torch.cat([t.flatten().double() for t in tensors])


def moved(weights: str) -> float:
    """Share of the weights with a gradient that 20 steps of lr 1e-6 change."""
    who = policy(Numerics(weights=weights, compute="bfloat16"))
    before = flat(who.model.parameters())
    options = merge(Optim, {"lr": 1e-6}, "test")
    optimizer = make_optimizer(who.model, options)
    touched = torch.zeros(len(before), dtype=torch.bool)
    for step in range(20):
        touched |= flat(backward(who).values()) != 0
        apply_gradient(optimizer, step + 1, 20, options)
        optimizer.zero_grad()
    return float((flat(who.model.parameters()) != before)[touched].double().mean())


def test_small_updates_reach_fp32_weights_and_are_lost_on_bf16_ones():
    assert moved("float32") > 0.99
    assert moved("bfloat16") < 0.2


def test_the_gradient_of_bf16_products_is_in_fp32_and_near():
    exact, rough = backward(policy()), backward(policy(BF16))
    assert all(g.dtype == torch.float32 for g in rough.values())
    cosine = torch.cosine_similarity(flat(exact.values()), flat(rough.values()), dim=0)
    assert 0.999 < cosine < 1 - 1e-9


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_recomputed_blocks_have_the_same_gradient(compute):
    whole = backward(policy(Numerics(compute=compute)))
    again = backward(policy(Numerics(compute=compute, recompute=True)))
    for name, expected in whole.items():
        assert (again[name] - expected).norm() <= 1e-6 * expected.norm(), name


def kept(recompute: bool) -> int:
    """Bytes that a forward pass keeps for the backward one beside the weights; what goes into recomputed blocks counted as well."""
    who = policy(Numerics(recompute=recompute), layers=12)
    seen = {p.untyped_storage().data_ptr() for p in who.model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    def inputs(module, args, kwargs) -> None:
        keep(args[0] if args else kwargs["hidden_states"])

    for block in ranks.blocks(who.model) if recompute else ():
        block.register_forward_pre_hook(inputs, with_kwargs=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        dist = who.dist(rows(16, 40))
    assert len(dist)
    return sum(t.untyped_storage().nbytes() for address, t in found.items() if address not in seen)


def test_recomputing_keeps_an_eighth_of_the_bytes_or_less():
    assert kept(False) >= 8 * kept(True)


@pytest.mark.parametrize("tie", [True, False])
def test_samples_come_from_the_weights_as_they_are_now(tie):
    who = policy(BF16, tie=tie)
    assert who.sampled_from() is not who.model and policy().sampled_from().dtype == torch.float32
    tied = who.sampled_from()
    assert (tied.get_output_embeddings().weight is tied.get_input_embeddings().weight) == tie
    assert not any(p.requires_grad for p in tied.parameters()) and tied.dtype == torch.bfloat16
    contexts = [[1, 2, 3], [4, 5]] * 4
    before = who.rollout(contexts, range(8), range(8))
    gap = (who.dist(before).chunk(0, len(before.action_N)).logp(before.action_N) - before.logp_N).abs()
    assert gap.max() < 0.2
    with torch.no_grad():
        for p in who.model.parameters():
            p.mul_(1.5)
    after = who.rollout(contexts, range(8), range(8), version=1)
    assert any(a.tolist() != b.tolist() for a, b in zip(before.actions, after.actions, strict=True))


def test_a_cast_copy_leaves_the_model_alone():
    model = qwen(VOCAB)
    copy = cast(model, torch.bfloat16)
    assert model.dtype == torch.float32 and all(p.requires_grad for p in model.parameters())
    assert copy.model.rotary_emb.inv_freq.dtype == torch.float32  # angles of far positions need it
    assert cast(model, torch.float32) is model
    recomputed = qwen(VOCAB)
    recompute_blocks(recomputed)
    ids = torch.tensor([[1, 2, 3]])
    inside = cast(recomputed, torch.bfloat16)
    with torch.no_grad():
        for p in recomputed.parameters():
            p.zero_()
        assert torch.equal(inside(ids).logits, copy(ids).logits)  # its blocks are its own


@pytest.mark.parametrize("tie", [True, False])
def test_files_hold_what_is_asked_for_and_say_so(tie, tmp_path):
    class Words(FakeTokenizer):
        def save_pretrained(self, folder):
            (folder / "tokenizer_config.json").write_text("{}")

    model = qwen(VOCAB, tie=tie)
    save_model(model, Words(VOCAB), tmp_path / "as it is")
    save_model(model, Words(VOCAB), tmp_path / "short", "bfloat16")
    whole, short = (load_file(tmp_path / name / "model.safetensors") for name in ("as it is", "short"))
    assert whole.keys() == short.keys()
    assert all(torch.equal(whole[name].bfloat16(), value) for name, value in short.items())
    told = [json.loads((tmp_path / name / "config.json").read_text()).pop("dtype") for name in ("as it is", "short")]
    assert told == ["float32", "bfloat16"]
    assert model.dtype == torch.float32


def test_a_learner_trains_what_is_recomputed():
    who = policy(Numerics(compute="bfloat16", recompute=True))
    learner = Learner(who, Objective.from_method(FULL, BUDGET), {"teacher": policy(seed=1)})
    options = {"optim": merge(Optim, {}, "test"), "steps": 3, "micro_batch": 2}
    learner.start("", options, 0)
    losses = [learner.update(step, Batch(rows(), {}), lambda figures: True)["loss"] for step in (1, 2, 3)]
    assert losses[2] < losses[0]


TEACHER = {"teacher": "one"}
REFUSED = {
    "bf16 weights in fp32": ({**TEACHER, "weights": "bfloat16"}, "x.weights"),
    "flash in fp32": ({**TEACHER, "attention": "flash_attention_2"}, "x.attention"),
    "flash, a teacher in fp32": (
        {**TEACHER, "attention": "flash_attention_2", "dtype": "bfloat16", "teacher_dtype": "float32"},
        "x.attention",
    ),
    "local engine": ({**TEACHER, "engine": {"dtype": "bfloat16"}}, "x.engine.dtype"),
    "a server that runs": (
        {**TEACHER, "teacher_engine": {"name": "server", "url": "http://host:8000", "dtype": "bfloat16"}},
        "x.teacher_engine.dtype",
    ),
    "no teacher": ({"scores": "scores", "teacher_dtype": "bfloat16"}, "x.teacher_dtype"),
    "no weights of its own": (
        {"teachers": {"own": {"model": "self", "weights": "current", "dtype": "bfloat16"}}, "method": {"against": "own"}},
        "x.teachers.own.dtype",
    ),
    "a row a pass": ({**TEACHER, "micro_tokens": 64, "gradient": "per_record"}, "x.micro_tokens"),
    "no such dtype": ({**TEACHER, "dtype": "float16"}, "x.dtype"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused(name, tmp_path):
    options, key = REFUSED[name]
    with pytest.raises(UserError) as error:
        build(tmp_path, **options)
    assert error.value.where.endswith(key)


def test_each_model_has_the_dtype_that_is_asked_for(tmp_path):
    options = {"dtype": "bfloat16", "published": "bfloat16", "recompute": True, "attention": "eager", "packed": True}
    assert build(tmp_path, **TEACHER, **options, teacher_dtype="float32", engine={"name": "vllm", "dtype": "float32"})
    node = {"weights": "float32", **options}
    assert Numerics.trained(node) == Numerics("float32", "bfloat16", "bfloat16", "eager", True, True)
    assert Numerics.frozen(node) == Numerics("bfloat16", "bfloat16", attention="eager", packed=True)
    assert Numerics.frozen(node, "float32") == Numerics("float32", "float32", attention="eager", packed=True)


@pytest.mark.parametrize("suite", ["lm_eval", "played"])
def test_every_suite_computes_in_the_dtype_that_is_asked_for(suite, tmp_path):
    options = {
        "kind": "evaluate",
        "model": "student",
        "data": "data",
        "suite": suite,
        "dtype": "bfloat16",
        "attention": "eager",
    }
    OmegaConf.save({"paper": {"title": "t"}, "nodes": {**NODES, "e": options}}, tmp_path / "toy.yaml")
    found = checked(Graph([str(tmp_path / "toy.yaml")])).nodes["toy", "evaluate", "e"].options
    assert Numerics.frozen(found) == Numerics("bfloat16", "bfloat16", attention="eager")
