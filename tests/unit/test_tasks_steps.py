"""The data and model steps: what they publish, that bytes repeat, and what they refuse."""

import json

import pytest
import torch

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.models.folder import load_model, load_tokenizer, save_model, where
from opd_steps.models.tokenizers import char_tokenizer, describe
from opd_steps.steps.data import data
from opd_steps.steps.model import model
from opd_steps.store.artifacts import Job, read_manifest
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.asking import load_split, load_task
from opd_steps.tasks.pool import PromptPool

STEPS = {"data": data, "model": model}
TINY = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "rope_theta": 100.0,
    "tie_word_embeddings": True,
}
SUMS = {
    "source": {"name": "arithmetic", "train": 60, "test": 10, "ood": 5},
    "verifier": {"name": "exact", "after": "="},
}


def run(root, kind, name="n", seed=0, parents=None, **options):
    checked = merge(KINDS[kind], {"kind": kind, **options}, kind)
    kept = {k: v for k, v in checked.items() if k not in {"kind", "seed", "resources", *(parents or {})}}
    folder = root / "p" / kind / name / f"seed{seed}"
    config = {"kind": kind, "options": kept, "parents": parents or {}, "seed": seed}
    with Job(config, {}, folder / "manifest.json", KINDS[kind].sources(kept)) as job:
        STEPS[kind](job)
    return folder, read_manifest(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    run(root, "data", "sums", **SUMS)
    run(root, "model", "tiny", parents={"data": "p/data/sums/seed0"}, config=TINY)
    return root


def test_data_is_published_for_its_readers(results):
    folder = results / "p/data/sums/seed0"
    facts = read_manifest(folder)["facts"]
    assert facts["alphabet"] == "+0123456789;=" and facts["splits"] == {"train": 60, "test": 10, "ood": 5}
    task = load_task(folder)
    assert (task.chat, task.system) == (False, None)
    assert all(task.verifier.score(r["solution"], r["answer"]) for r in load_split(folder, "ood"))


def test_hinted_data_says_how_pretraining_shows_its_prompts(tmp_path):
    stated = {"name": "stated_confidence", "of": SUMS["source"], "noise": 0.0}
    options = {"source": {"name": "hinted", "of": stated, "wrong": 1.0, "most": 1}, "hints": {"name": "marks", "wrong": "~"}}
    folder, manifest = run(tmp_path, "data", **options, verifier={"name": "with_confidence", "of": SUMS["verifier"]})
    rows, task = load_split(folder, "train"), load_task(folder)
    shown = [r for r in rows if "corpus_prompt" in r]
    assert 10 < len(shown) < 50 and all(r["corpus_prompt"].startswith("~") for r in shown)
    assert all(r["corpus_prompt"].endswith("|" + r["prompt"]) and "hints" not in r for r in shown)
    assert set("!~|ABCDEFGHIJK") <= set(manifest["facts"]["alphabet"])  # also those that no text of the data holds
    assert task.hints.hinted_prompt("3=", ["3"], []) == "!3|3=" and task.verifier.confidence("=3B") == 0.1
    pool = PromptPool.load(folder, "train", char_tokenizer(manifest["facts"]["alphabet"]))
    picks = range(len(rows))
    texts = lambda ids: ["".join(pool.tokenizer.convert_ids_to_tokens(row)) for row in ids]
    assert texts(pool.contexts(picks)) == [r["prompt"] for r in rows]
    assert texts(pool.contexts(picks, corpus=True)) == [r.get("corpus_prompt", r["prompt"]) for r in rows]


def test_data_repeats_to_the_byte(results):
    assert run(results, "data", "again", **SUMS)[1]["files"] == read_manifest(results / "p/data/sums/seed0")["files"]


def test_data_refuses_a_verifier_that_rejects_the_solutions(tmp_path):
    with pytest.raises(UserError, match=r"verifier 'exact'.*rejects most solutions"):
        run(tmp_path, "data", **(SUMS | {"verifier": {"name": "exact"}}))


def test_data_refuses_an_unheard_system_message_and_emptiness(tmp_path):
    with pytest.raises(UserError, match="chat: true"):
        run(tmp_path, "data", **SUMS, system="hello")
    file = tmp_path / "x.jsonl"
    file.write_text("")
    with pytest.raises(UserError, match="no rows in this file"):
        run(tmp_path, "data", source={"name": "jsonl", "path": str(file)})


def test_published_rows_with_odd_line_breaks_can_be_read(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"prompt": "a\u2028b", "answer": "1"}) + "\n")
    folder, manifest = run(tmp_path, "data", source={"name": "jsonl", "path": str(file)})
    assert read_jsonl(folder / "train.jsonl")[0]["prompt"] == "a\u2028b" and "\u2028" in manifest["facts"]["alphabet"]


def test_fresh_model(results):
    folder = results / "p/model/tiny/seed0"
    facts = read_manifest(folder)["facts"]
    loaded, tokenizer = load_model(folder), load_tokenizer(folder)
    assert facts["tokenizer"] == describe(tokenizer) and facts["vocab_size"] == len(tokenizer) == 15
    assert facts["parameters"] == sum(p.numel() for p in loaded.parameters())
    assert not loaded.training and loaded.dtype == torch.float32
    assert (loaded.config.eos_token_id, loaded.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert loaded.config.rope_parameters["rope_theta"] == 100.0


def test_models_repeat_to_the_byte_and_differ_by_seed(results, tmp_path):
    before = torch.random.get_rng_state()
    parents = {"data": "p/data/sums/seed0"}
    files = read_manifest(results / "p/model/tiny/seed0")["files"]
    assert run(results, "model", "again", parents=parents, config=TINY)[1]["files"] == files
    other = run(results, "model", "again", seed=1, parents=parents, config=TINY)[1]["files"]
    assert {n for n in files if files[n] != other[n]} == {"model/model.safetensors"}
    assert torch.equal(before, torch.random.get_rng_state())
    folder = results / "p/model/tiny/seed0"
    save_model(load_model(folder), load_tokenizer(folder), tmp_path / "model")
    for name in files:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_padded_vocabulary_and_foreign_tokenizer(results):
    config = TINY | {"vocab_size": 16}
    _, manifest = run(results, "model", "padded", tokenizer=str(results / "p/model/tiny/seed0/model"), config=config)
    assert manifest["facts"]["vocab_size"] == 16 and manifest["facts"]["tokenizer"]["size"] == 15
    assert manifest["facts"]["tokenizer"] == read_manifest(results / "p/model/tiny/seed0")["facts"]["tokenizer"]


def test_a_linked_model_is_not_copied_and_must_not_change(results, tmp_path):
    source = tmp_path / "mine"
    tiny = results / "p/model/tiny/seed0"
    save_model(load_model(tiny), load_tokenizer(tiny), source)
    folder, manifest = run(tmp_path, "model", path=str(source))
    assert list(manifest["files"]) == ["link.json"] and where(folder) == str(source)
    weights = read_manifest(tiny)["files"]["model/model.safetensors"]
    assert manifest["facts"]["weights"] == {"model.safetensors": weights}
    assert manifest["facts"]["tokenizer"] == read_manifest(tiny)["facts"]["tokenizer"]
    ours, linked = load_model(tiny).state_dict(), load_model(folder).state_dict()
    assert all(torch.equal(ours[k], linked[k]) for k in ours)
    where.cache_clear()  # as in a later process
    blob = bytearray((source / "model.safetensors").read_bytes())
    blob[-1] ^= 1
    (source / "model.safetensors").write_bytes(blob)
    with pytest.raises(UserError, match=r"model\.safetensors: changed since"):
        load_model(folder)


def test_a_hub_model_is_pinned_to_its_commit(results, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "snapshots" / "abc123"
    tiny = results / "p/model/tiny/seed0"
    save_model(load_model(tiny), load_tokenizer(tiny), snapshot)
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **o: asked.append((name, o)) or str(snapshot))
    folder, manifest = run(tmp_path, "model", path="org/name", revision="main")
    assert manifest["facts"]["source"] == "org/name" and manifest["facts"]["revision"] == "abc123"
    assert where(folder) == str(snapshot)
    assert [(n, o["revision"], o["local_files_only"]) for n, o in asked] == [
        ("org/name", "main", False),
        ("org/name", "abc123", True),
    ]
    assert not any("bin" in pattern for pattern in asked[0][1]["allow_patterns"])


@pytest.fixture
def broken(results, tmp_path):
    """A function that makes a checkpoint folder and spoils it."""
    tiny = results / "p/model/tiny/seed0"

    def make(spoil):
        folder = tmp_path / "broken"
        save_model(load_model(tiny), load_tokenizer(tiny), folder)
        spoil(folder)
        return str(folder)

    return make


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{}"), "no config.json"),
        (lambda f: (f / "config.json").write_text('{"model_type": "qwen33"}'), "config.json"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pytorch_model.bin is a pickle"),
        (lambda f: (f / "model.safetensors").unlink(), "no .*safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x08" + b"\0" * 7 + b"{}"), "not a safetensors file"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}'), "names x.safe"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "cannot load this tokenizer"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(broken, tmp_path, spoil, says):
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path, "model", path=broken(spoil))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "/no/such/folder"}, "no such model folder"),
        ({"path": "/no", "config": {"a": 1}}, "leave out path or config"),
        ({"revision": "main", "tokenizer": "byte"}, "needs a path"),
        ({"config": TINY}, "alphabet"),
        ({"tokenizer": "byte", "architecture": "qwen33"}, "Did you mean 'qwen3'"),
        ({"tokenizer": "byte", "config": {"hiden_size": 3}}, "Did you mean 'hidden_size'"),
        ({"tokenizer": "byte", "config": {"eos_token_id": 3}}, "eos_token_id"),
        ({"tokenizer": "byte", "config": {"vocab_size": 3}}, "at least the tokenizer's 260"),
        ({"tokenizer": "byte", "config": TINY | {"hidden_size": "x"}}, "no qwen3 model with these values"),
        ({"tokenizer": "byte", "config": TINY | {"hidden_act": "x"}}, "no qwen3 model with these values"),
        (
            {"tokenizer": "byte", "architecture": "vit"},
            "expected a causal language model; transformers has none of model type 'vit'",
        ),
        ({"tokenizer": "/no/such/folder"}, "no such model folder"),
    ],
)
def test_model_refuses(tmp_path, options, says):
    with pytest.raises(UserError, match=says):
        run(tmp_path, "model", **options)


def test_no_model_here(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        where(tmp_path)
