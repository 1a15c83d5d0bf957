"""Models and data given as paths: a checkpoint with Qwen3's padded vocabulary, and GSM8K's files in full text."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opd_steps.store.files import write_json, write_jsonl
from opd_steps.store.fingerprint import file_sha256
from tests.pipeline.checkout import Checkout
from tests.pipeline.stages import save_checkpoint

VOCAB, TOKENS = 151_936, 260  # rows of the embedding, tokens of the tokenizer
NAMES, THINGS = ("Natalia", "Weng", "Betty", "Julie", "James", "Zoë"), ("clips", "apples", "pages", "€5 notes")
STEPS = {"steps": 3, "prompts": 4, "checkpoint_every": 2, "sampling": {"max_new_tokens": 12}}
TRAINED = ("sft/student", "opd/exact", "opd/top", "opd/lightning")


def problem(i: int) -> dict:
    """One record as in GSM8K: steps with calculator annotations, the answer behind ####."""
    name, thing, a, b = NAMES[i % len(NAMES)], THINGS[i % len(THINGS)], 1000 + 2 * i, 3 + i % 7
    question = (
        f"{name} sold {a} {thing} in April, and half as many in May. Then {b} came back. How many {thing} were sold in all?"
    )
    total, left = a + a // 2, a + a // 2 - b
    answer = (
        f"{name} sold {a}/2 = <<{a}/2={a // 2}>>{a // 2} {thing} in May.\n"
        f"That makes {a}+{a // 2} = <<{a}+{a // 2}={total}>>{total}, less {b} that is <<{total}-{b}={left}>>{left}.\n"
        f"#### {left:,}"
    )
    return {"question": question, "answer": answer}


def paper(folder: Path) -> dict:
    exact, below = {"signal": "rkl", "estimator": "exact"}, {"student": "student", "data": "data", **STEPS}
    nodes = {
        "data": {
            "kind": "data",
            "seed": 0,
            "source": {"name": "gsm8k", "path": str(folder / "gsm8k")},
            "chat": True,
            "system": "Reason step by step.",
        },
        "teacher": {"kind": "model", "path": str(folder / "teacher")},
        "student_init": {"kind": "model", "path": str(folder / "student")},
        "student": {"kind": "sft", "student": "student_init", "data": "data", "steps": 4, "batch": 8},
        "rollouts": {"kind": "rollout", "policy": "student", "data": "data", "limit": 12, "sampling": STEPS["sampling"]},
        "scores": {"kind": "score", "rollouts": "rollouts", "teacher": "teacher", "topk": 4},
        "exact": {"kind": "opd", "teacher": "teacher", "method": {"support": "full", **exact}, **below},
        "top": {"kind": "opd", "teacher": "teacher", "method": {"support": {"name": "student_topk", "k": 4}, **exact}, **below},
        "lightning": {"kind": "opd", "scores": "scores", "teacher_consistency": "warn", **below},
    }
    options = {"data": "data", "teacher": "teacher", "limit": 6, "k": 2, "max_new_tokens": 12}
    return {"paper": {"title": "Given"}, "nodes": nodes, "evaluate": {"models": ["exact"], "options": options}}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Checkout:
    """The whole pipeline on given paths, run offline."""
    folder = tmp_path_factory.mktemp("given")
    for seed, name in enumerate(("teacher", "student")):
        save_checkpoint(folder / name, seed, vocab_size=VOCAB, hidden_size=16, head_dim=8, initializer_range=0.2)
    write_jsonl(folder / "gsm8k/train.jsonl", [problem(i) for i in range(60)])
    write_jsonl(folder / "gsm8k/test.jsonl", [problem(i) for i in range(60, 72)])
    checkout = Checkout(folder / "checkout")
    write_json(checkout.folder / "workflow/papers/given.yaml", paper(folder))  # JSON is YAML
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        checkout.snakemake("all", "--config", "papers=[given]")
    return checkout


def manifest(given: Checkout, node: str) -> dict:
    return json.loads((given.folder / f"results/given/{node}/seed0/manifest.json").read_text())


def planned(given: Checkout) -> set[str]:
    return given.planned("all", "--config", "papers=[given]")


def test_given_weights_are_linked_not_copied(given):
    for name, folder in (("teacher", "teacher"), ("student_init", "student")):
        source = given.folder.parent / folder
        found = manifest(given, f"model/{name}")
        assert list(found["files"]) == ["link.json"]
        assert found["facts"]["weights"]["model.safetensors"]["sha256"] == file_sha256(source / "model.safetensors")
        assert (found["facts"]["vocab_size"], found["facts"]["tokenizer"]["size"]) == (VOCAB, TOKENS)
    assert not list(given.folder.glob("results/given/model/**/*.safetensors"))


def test_problems_are_read_in_full_text(given):
    rows = (given.folder / "results/given/data/data/seed0/train.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(rows[0])
    assert len(rows) == 60 and "half as many in May" in first["prompt"] and "<<" not in first["solution"]
    assert first["answer"] == "1497"
    facts = manifest(given, "data/data")["facts"]
    assert (facts["chat"], facts["system"]) == (True, "Reason step by step.")
    preview = (given.folder / "results/given/rollout/rollouts/seed0/preview.jsonl").read_text(encoding="utf-8")
    assert len(preview.splitlines()) == 12


@pytest.mark.parametrize("node", TRAINED)
def test_every_checkpoint_loads_in_transformers(given, node, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = given.folder / f"results/given/{node}/seed0/model"
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert (model.config.vocab_size, len(tokenizer), model.config.tie_word_embeddings) == (VOCAB, TOKENS, True)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "1+1?"}], add_generation_prompt=True, return_tensors="pt")
    assert torch.isfinite(model(chat["input_ids"]).logits).all()
    before = AutoModelForCausalLM.from_pretrained(given.folder.parent / "student").get_input_embeddings().weight
    after = model.get_input_embeddings().weight
    assert torch.equal(after[TOKENS:], before[TOKENS:])  # padding was never sampled nor trained
    assert not torch.equal(after[:TOKENS], before[:TOKENS])


@pytest.mark.parametrize("node", [*TRAINED, "rollout/rollouts", "evaluate/exact"])
def test_every_figure_is_finite(given, node):
    metrics = manifest(given, node)["metrics"]
    assert metrics and all(math.isfinite(value) for value in metrics.values())
    if node in TRAINED:
        assert metrics["train/grad_norm"] > 0


def test_touched_files_rerun_nothing_and_changed_data_all_below(given):
    train, below = (
        given.folder.parent / "gsm8k/train.jsonl",
        {"sft given/student", "rollout given/rollouts", "score given/scores"},
    )
    below |= {"opd given/exact", "opd given/top", "opd given/lightning", "evaluate given/exact"}
    os.utime(train)
    assert planned(given) == set()
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("sold 1000", "sold 1002"), encoding="utf-8")
    try:
        found = planned(given)
    finally:
        train.write_text(text, encoding="utf-8")
    assert {job.removesuffix(" seed 0") for job in found} == below | {"data given/data", "track", "report"}


def test_one_changed_byte_of_the_weights_is_noticed(given):
    """Also behind the old time."""
    weights = given.folder.parent / "teacher/model.safetensors"
    data, stat = weights.read_bytes(), weights.stat()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        for _ in range(2):
            run = given.snakemake("-n", "all", "--config", "papers=[given]")
            assert f"distillery: {weights} changed; to run again: model/teacher" in run.stdout
            found = planned(given)
            assert {"model given/teacher seed 0", "opd given/exact seed 0"} <= found
            assert not found & {"model given/student_init seed 0", "sft given/student seed 0"}
            os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    finally:
        weights.write_bytes(data)
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert planned(given) == set()
