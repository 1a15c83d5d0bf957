"""Adapters: what they compute, what they leave alone, what is written of them, and who reads it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from opd_steps.errors import NotFinite, UserError
from opd_steps.models import folder as models
from opd_steps.models.bases import Base, Tuning, weights_digest
from opd_steps.models.export import export
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.models.folder import load_model, weights_at, where
from opd_steps.nouns.adapted import layers, merged, switched_off, whole_weights
from opd_steps.nouns.teaching import Given
from opd_steps.rollout.lean import unknown
from opd_steps.store.artifacts import read_manifest
from opd_steps.store.files import write_json
from opd_steps.teachers.sources.ema import EMA
from opd_steps.tune.lora import Lora
from tests.unit.opd_toys import PARENTS, Killed, nodes, run, work
from tests.unit.tiny_results import publish

LORA = {"name": "lora", "r": 4}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 24, "pad_token_id": 0}
WIDE = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
ARCHITECTURES = {
    "qwen3": WIDE,
    "llama": WIDE,
    "gemma3_text": WIDE,
    "gpt2": {},  # its layers are Conv1D, their weights transposed
    "gpt_neox": {"intermediate_size": 48},
    "qwen3_moe": WIDE | {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2},
}
IDS = torch.arange(2, 22)[None]


def model_of(architecture: str = "qwen3", dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SIZES | ARCHITECTURES[architecture])
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)


def adapted(architecture: str = "qwen3", dtype: torch.dtype = torch.float32, **options):
    """(a model with an adapter that has learned something, the logits of the model as it was)."""
    model = model_of(architecture, dtype)
    before = logits(model)
    Lora(**{"r": 4} | options).adapt(model, seed=1)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)  # B is 0 at first
    generator = torch.Generator().manual_seed(2)
    for p in trained(model).values():
        p.data += 0.05 * torch.randn(p.shape, generator=generator)
    return model, before


def trained(model) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_whole_weights_are_those_of_the_merged_model(architecture):
    """By names, shapes and values; beside bf16 weights they are not rounded."""
    for dtype in (torch.float32, torch.bfloat16):
        model, _ = adapted(architecture, dtype)
        found = dict(whole_weights(model))
        with merged(model):
            want = dict(model.named_parameters())
        assert found.keys() == want.keys()
        for name, value in want.items():
            assert found[name].to(value.dtype).equal(value)
        assert all(found[f"{name}.weight"].dtype == torch.float32 for name in layers(model))


def test_an_average_of_an_adapter_beside_bf16_weights_moves_by_small_steps():
    """theta_T = theta_0 + (1 - (1 - a)^t) (theta - theta_0) for a student that stands still; in bf16 it would stay where it was."""
    model, _ = adapted(dtype=torch.bfloat16)
    teacher = model_of(dtype=torch.bfloat16).float()
    first, student = ({n: p.clone() for n, p in found} for found in (teacher.named_parameters(), whole_weights(model)))
    given = Given("teacher", SimpleNamespace(model=model), lambda: SimpleNamespace(model=teacher), None)
    hook = EMA(rate=1e-3).hook(given)
    for step in range(1, 11):
        hook(step, None, {})
    part, moved = 1 - 0.999**10, 0
    for name, p in teacher.named_parameters():
        torch.testing.assert_close(p, first[name] + part * (student[name].float() - first[name]), rtol=1e-5, atol=1e-8)
        moved += int(((p.bfloat16() == first[name].bfloat16()) & (p != first[name])).sum())
    assert moved  # weights that bf16 would have left where they were


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_merged_it_is_a_plain_model_of_the_same_logits(architecture):
    model, before = adapted(architecture)
    plain, weights = model_of(architecture), {name: p.clone() for name, p in model.named_parameters()}
    found = logits(model)
    assert (found - before).abs().max() > 0.01
    with merged(model):
        assert model.state_dict().keys() == plain.state_dict().keys() and not layers(model)
        torch.testing.assert_close(logits(model), found, rtol=0, atol=1e-5)
        plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(logits(plain), found, rtol=0, atol=1e-5)
    with switched_off(model):
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), found)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())  # nothing was changed


def test_what_is_trained_is_an_adapter_of_each_layer_but_head_and_embedding():
    model, _ = adapted()
    assert {name.split(".")[-4] for name in trained(model)} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    assert len(layers(model)) == 14 and len(trained(model)) == 28
    model, _ = adapted(targets=["q_proj", "v_proj"])
    assert {name.rpartition(".")[2] for name in layers(model)} == {"q_proj", "v_proj"}
    with pytest.raises(UserError, match=r"tune.targets: the model has no linear layer 'q' beside its head; it has down_proj, "):
        adapted(targets=["q"])
    with pytest.raises(UserError, match="no linear layer 'embed_out' beside its head"):
        adapted("gpt_neox", targets=["embed_out"])  # what this architecture calls its head


def test_the_seed_alone_draws_it():
    first, second, other = (model_of() for _ in range(3))
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        torch.manual_seed(seed + torch.initial_seed())
        Lora(r=4).adapt(model, seed)
    same = lambda a, b: all(torch.equal(p, trained(b)[name]) for name, p in trained(a).items())
    assert same(first, second) and not same(first, other)


def test_a_bf16_model_has_an_fp32_adapter():
    model, _ = adapted(dtype=torch.bfloat16)
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    assert logits(model).dtype is torch.bfloat16
    with merged(model):
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_the_lean_decoder_sees_an_adapter():
    """It reads weights past the layers, and would sample from the base alone."""
    model, _ = adapted()
    assert unknown(model) == "Qwen3ForCausalLM with adapters on its layers"
    with merged(model):
        assert unknown(model) == ""


# ---- files


def student(folder: Path, train: bool = True, **sampling):
    """The toys' student as a policy with an adapter that has learned something, and where it was saved."""
    results = folder / "results"
    results.mkdir()
    (results / "p").symlink_to(nodes() / "p")
    start = results / "p/model/student/seed0"
    base = Base("p/model/student/seed0", "", weights_digest(read_manifest(start)))
    policy = CausalLM().policy(start, train=True, tuning=Tuning(Lora(r=4), 1, base))
    generator = torch.Generator().manual_seed(2)
    for p in trained(policy.model).values():
        p.data += 0.2 * torch.randn(p.shape, generator=generator)
    saved = results / "q/opd/toy/seed0"
    saved.mkdir(parents=True)
    CausalLM().save(policy, saved)
    return policy, saved


def test_a_saved_adapter_is_itself_alone_and_loads_as_the_same_model(tmp_path):
    policy, saved = student(tmp_path)
    assert sorted(str(p.relative_to(saved)) for p in saved.rglob("*") if p.is_file()) == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "base.json",
    ]
    held = load_file(saved / "adapter/adapter_model.safetensors")
    assert sum(v.numel() for v in held.values()) == sum(p.numel() for p in trained(policy.model).values())
    loaded, rows = CausalLM().policy(saved), policy.rollout([[3, 4], [5]], [0, 1], [7, 8])
    logp = lambda policy: policy.dist(rows).chunk(0, 99).logp_NV
    with torch.no_grad():
        assert (logp(loaded) - logp(policy)).abs().max() < 1e-5
        assert (logp(policy.begun()) - logp(policy)).abs().max() > 0.1
        start = CausalLM().policy(saved.parents[3] / "p/model/student/seed0")
        assert torch.equal(logp(policy.begun()), logp(start))
    assert policy.begun().model is policy.model  # one copy
    assert not layers(loaded.model) and loaded.base is None


def test_peft_reads_it(tmp_path):
    policy, saved = student(tmp_path)
    base = load_model(where(saved).removesuffix("/model"))
    whole = PeftModel.from_pretrained(base, saved / "adapter")
    ids = IDS % 8
    with torch.no_grad():
        torch.testing.assert_close(whole(input_ids=ids).logits, policy.model(input_ids=ids).logits, rtol=0, atol=1e-5)


def test_samples_are_those_of_the_merged_model(tmp_path):
    policy, saved = student(tmp_path)
    loaded = CausalLM().policy(saved)
    asked = [[3, 4], [5]], [0, 1], [7, 8], 0
    mine, its, old = policy.rollout(*asked), loaded.rollout(*asked), policy.begun().rollout(*asked)
    assert [a.tolist() for a in mine.actions] == [a.tolist() for a in its.actions] != [a.tolist() for a in old.actions]
    torch.testing.assert_close(torch.cat(mine.logp), policy.dist(mine).chunk(0, 99).logp(mine.action_N), rtol=0, atol=1e-5)


def test_whole_weights_are_made_once_where_somebody_needs_them_as_files(tmp_path, monkeypatch):
    policy, saved = student(tmp_path)
    made = Path(weights_at(saved, tmp_path / "scratch"))
    assert made.parent == tmp_path / "scratch" and (made / "tokenizer.json").exists()
    with torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(made)(input_ids=IDS % 8).logits
        torch.testing.assert_close(whole, policy.model(input_ids=IDS % 8).logits, rtol=0, atol=1e-5)
    monkeypatch.setattr(models, "load_model", None)
    assert weights_at(saved, tmp_path / "scratch") == str(made)
    assert weights_at(saved.parents[3] / "p/model/student/seed0", tmp_path / "scratch") == where(saved)  # whole already
    monkeypatch.undo()
    publish(saved, {"family": {"name": "causal_lm"}})
    export(saved, tmp_path / "mine", "bfloat16")
    assert {v.dtype for v in load_file(tmp_path / "mine/model.safetensors").values()} == {torch.bfloat16}
    with pytest.raises(UserError, match="mine: is there already"):
        export(saved, tmp_path / "mine")


def test_a_base_that_is_gone_or_another_is_refused(tmp_path):
    _, saved = student(tmp_path)
    results = saved.parents[3]
    (results / "p").unlink()
    shutil.copytree(nodes() / "p/model/student", results / "p/model/student")
    load_model(saved)
    manifest = json.loads((results / "p/model/student/seed0/manifest.json").read_text())
    shutil.rmtree(results / "p/model/student")
    where.cache_clear()
    with pytest.raises(UserError, match=r"base.json: its base p/model/student/seed0 is in no folder above"):
        load_model(saved)
    shutil.copytree(nodes() / "p/model/teacher/seed1", results / "p/model/student/seed0")
    where.cache_clear()
    with pytest.raises(UserError, match=r"student/seed0: changed since .* was trained on it"):
        load_model(saved)
    write_json(results / "p/model/student/seed0/manifest.json", manifest)
    os.utime(results / "p/model/student/seed0/model/model.safetensors", (time.time() + 1,) * 2)
    with pytest.raises(UserError, match=r"student/seed0/.* is damaged"):
        load_model(saved)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    _, saved = student(tmp_path)
    file = saved / "adapter/adapter_model.safetensors"
    whole = load_file(file)
    name, value = next(iter(whole.items()))
    save_file({**whole, name: value[:, :-1].contiguous()}, file)
    with pytest.raises(
        UserError, match=r"its adapter_model.safetensors does not fit its adapter_config.json and the model under"
    ):
        load_model(saved)
    save_file({**whole, name: value * torch.nan}, file)
    with pytest.raises(NotFinite, match="is not finite"):
        load_model(saved)
    file.write_bytes(b"no")
    with pytest.raises(UserError, match="not an adapter of this model"):
        load_model(saved)


# ---- trainings


def test_a_checkpoint_holds_the_adapter_alone(tmp_path):
    for name, tune in (("lora", LORA), ("full", "full")):
        with pytest.raises(Killed):
            run(tmp_path / name, 5, tune=tune)
    sizes = {}
    for name in ("lora", "full"):
        (folder,) = work(tmp_path / name).glob("checkpoint-*")
        found = {part: load_file(folder / f"{part}.safetensors") for part in ("model", "optimizer")}
        sizes[name] = {part: sum(v.numel() for v in tensors.values()) for part, tensors in found.items()}
        if name == "lora":
            assert all("lora_" in key for tensors in found.values() for key in tensors)
    policy, _ = student(tmp_path)
    count = sum(p.numel() for p in trained(policy.model).values())
    assert sizes["lora"]["model"] == count
    assert sizes["lora"]["optimizer"] == 2 * count + len(trained(policy.model))  # two moments, and a step each
    assert sizes["full"]["model"] > count


CASES = {
    "plain": {},
    "buffer, milestone": {"buffer": {"batches": 2}, "keep": {"early": 3}},
    "its start as reference": {
        "method": {"add": [{"against": "reference", "estimator": "k3"}]},
        "parents": {"reference": PARENTS["student"]},
    },
    "ema": {"teacher_source": {"name": "ema", "rate": 0.3}},
    "its own average": {
        "parents": {"teacher": None, "reference": None, "teachers.old.model": PARENTS["student"]},
        "teachers": {"old": {"model": "self", "weights": {"name": "ema"}}},
        "method": {"signal": "outcome", "add": [{"against": "old"}]},
    },
    "records": {"gradient": {"name": "per_record", "clip": 0.1, "noise": 0.1}, "method": {"aggregate": "seq_mean"}},
    "mixed tokens": {"method": {"prefix": {"name": "token_mix"}}},
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path, case):
    options = {"tune": LORA} | CASES[case]
    whole = run(tmp_path / "whole", **options)
    for kill_at in (4, 7):
        with pytest.raises(Killed):
            run(tmp_path / "broken", kill_at, **options)
    resumed = run(tmp_path / "broken", **options)
    assert resumed.manifest["files"] == whole.manifest["files"] and resumed.metrics == whole.metrics
    assert any(value.abs().max() > 0 for name, value in whole.weights.items() if "lora_B" in name)
