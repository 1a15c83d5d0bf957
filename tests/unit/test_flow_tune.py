"""Flows trained by adapters, in bf16, with blocks that are computed again: the same pictures, gradients and files as of any other model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from peft import PeftModel
from safetensors.torch import load_file

from opd_steps.loop.objective import Objective
from opd_steps.models.bases import ADAPTER, Base, Tuning, weights_digest
from opd_steps.models.export import export
from opd_steps.models.families import named
from opd_steps.models.families.sd3 import LEFT_OUT, SD3
from opd_steps.models.numerics import FP32, Numerics
from opd_steps.store.artifacts import read_manifest
from opd_steps.tune.lora import Lora
from tests.unit.test_flow import EXACT, SAMPLING, TINY, rows_of
from tests.unit.tiny_results import publish

FAMILY = SD3(patches=2)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A node's folder with a flow."""
    place = tmp_path_factory.mktemp("results") / "p/model/start/seed0"
    FAMILY.make(SimpleNamespace(stage=place, seed=0, options={"path": None, "revision": None, "config": TINY}))
    publish(place, {})
    return place


def adapted(start, numerics: Numerics = FP32):
    base = Base("p/model/start/seed0", "", weights_digest(read_manifest(start)))
    how = {"numerics": numerics, "sampling": SAMPLING, "train": True}
    return FAMILY.policy(start, tuning=Tuning(Lora(r=2), 1, base), **how)


def moved(policy, amount: float = 0.1):
    """With an adapter that changes something."""
    draw = torch.Generator().manual_seed(1)
    for name, p in policy.model.named_parameters():
        if p.requires_grad:
            assert "lora_" in name and p.dtype == torch.float32
            p.data += amount * torch.randn(p.shape, generator=draw)
    return policy


def gradient(student, teacher, rows) -> torch.Tensor:
    Objective.from_method(EXACT, 4).backward(student, rows, {}, {"teacher": teacher})
    found = torch.cat([p.grad.flatten() for p in student.model.parameters() if p.requires_grad])
    student.model.zero_grad()
    return found


def test_an_adapter_begins_as_its_base_and_can_always_say_what_that_says(start):
    plain, student = FAMILY.policy(start, sampling=SAMPLING), adapted(start)
    rows = rows_of(plain)
    says = lambda policy: policy.dist(rows).mean_ND
    assert says(student).equal(says(plain))
    moved(student)
    assert says(student.begun()).equal(says(plain)) and not torch.allclose(says(student), says(plain), atol=1e-2)
    assert gradient(student, student.begun(), rows).norm() > 0


def test_it_is_published_alone_and_read_as_one_model(start):
    student = moved(adapted(start))
    folder = start.parents[2] / "opd/tuned/seed0"
    FAMILY.save(student, folder)
    assert sorted(file.name for file in folder.rglob("*") if file.is_file()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "base.json",
    ]
    publish(folder, {})
    rows = rows_of(student)
    read = FAMILY.policy(folder, sampling=SAMPLING)
    torch.testing.assert_close(read.dist(rows).mean_ND, student.dist(rows).mean_ND, rtol=1e-5, atol=1e-5)
    theirs = PeftModel.from_pretrained(SD3Transformer2DModel.from_pretrained(start / "model/transformer"), folder / ADAPTER)
    x, (tokens, pooled) = torch.randn(2, 3, 8, 8), FAMILY.policy(start).encoder.encode(["red block", "block northwest"])
    said = [m(x, tokens, pooled, torch.tensor([500.0, 20.0]), return_dict=False)[0] for m in (theirs, read.model)]
    torch.testing.assert_close(*said, rtol=1e-5, atol=1e-5)


def test_it_is_exported_as_a_whole_folder_of_diffusers(start, tmp_path):
    student = moved(adapted(start))
    folder = start.parents[2] / "opd/sent/seed0"
    FAMILY.save(student, folder)
    publish(folder, {"family": named(FAMILY)})
    export(folder, tmp_path / "mine")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine"]
    read = SD3Transformer2DModel.from_pretrained(tmp_path / "mine/transformer")
    whole = dict(FAMILY.policy(folder).model.named_parameters())
    assert all(value.equal(whole[name]) for name, value in read.named_parameters())
    pipe = StableDiffusion3Pipeline.from_pretrained(tmp_path / "mine", **dict.fromkeys(LEFT_OUT))
    assert pipe.transformer.config.sample_size == TINY["sample_size"]


def test_in_bf16_weights_and_gradients_stay_fp32(start):
    rows, found = rows_of(FAMILY.policy(start, sampling=SAMPLING)), []
    for numerics in (FP32, Numerics("float32", "bfloat16"), Numerics("bfloat16", "bfloat16")):
        student = moved(adapted(start, numerics), 0.02)
        student.dist(rows).mean_ND.square().sum().backward()  # of a divergence the difference of two such would be rounded
        found.append(torch.cat([p.grad.flatten() for p in student.model.parameters() if p.requires_grad]))
        assert found[-1].dtype == torch.float32
    exact, *low = found
    for grad in low:
        assert not grad.equal(exact) and torch.cosine_similarity(grad, exact, 0) > 0.999


def test_blocks_that_are_computed_again_have_the_same_gradient(start):
    kept = []

    def count(tensor):
        kept[-1] += tensor.nbytes
        return tensor

    found = []
    for again in (False, True):
        student = moved(adapted(start, Numerics(recompute=again)))
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            found.append(gradient(student, FAMILY.policy(start), rows_of(student)))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)
    assert kept[1] < kept[0] / 2


def test_published_in_bf16(start, tmp_path):
    policy = FAMILY.policy(start, numerics=Numerics(published="bfloat16"))
    FAMILY.save(policy, tmp_path)
    (file,) = (tmp_path / "model/transformer").glob("*.safetensors")
    written, trained = load_file(file), dict(policy.model.named_parameters())  # beside them a table of positions
    assert {written[name].dtype for name in trained} == {torch.bfloat16}
    assert {p.dtype for p in trained.values()} == {torch.float32}
