"""Base models that speak as the chat models that teach them, prompts without answers, and data to evaluate on alone."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.errors import UserError
from opd_steps.models.folder import load_model, load_tokenizer, where
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.steps.data import data  # noqa: F401 - imported before datasets, as a step does
from opd_steps.store.artifacts import damage, read_manifest
from opd_steps.store.files import write_jsonl
from opd_steps.tasks.pool import PromptPool
from tests.unit.chat_tokenizers import END_OF_TEXT, IM_END, THINKING_SWITCH, chat_tokenizer
from tests.unit.test_tasks_steps import run

SIZE = 400


def checkpoint(folder, seed: int, end: str, template: str | None, size: int = SIZE) -> str:
    tokenizer = chat_tokenizer(template or THINKING_SWITCH, end, size)
    torch.manual_seed(seed)
    shape = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
    ends = [tokenizer.eos_token_id] if end == END_OF_TEXT else tokenizer.convert_tokens_to_ids([IM_END, END_OF_TEXT])
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=size + 24, head_dim=16, eos_token_id=ends[0], **shape))
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if template is None:
        (folder / "chat_template.jinja").unlink()
    return str(folder)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    root = tmp_path_factory.mktemp("speaking")
    run(root, "model", "teacher", path=checkpoint(root / "chat", 0, IM_END, THINKING_SWITCH))
    plain = checkpoint(root / "base", 1, END_OF_TEXT, None)
    run(root, "model", "plain", path=plain)
    run(root, "model", "base", parents={"speaks": "p/model/teacher/seed0"}, path=plain)
    return root


def test_it_has_its_own_weights_and_the_others_template_and_ends(spoken):
    teacher, plain, base = (spoken / f"p/model/{name}/seed0" for name in ("teacher", "plain", "base"))
    facts = {folder: read_manifest(folder)["facts"] for folder in (teacher, plain, base)}
    assert facts[base]["tokenizer"] == facts[teacher]["tokenizer"] != facts[plain]["tokenizer"]
    assert facts[base]["ends"] == facts[teacher]["ends"] != facts[plain]["ends"] and len(facts[base]["ends"]) == 2
    assert load_tokenizer(base).chat_template == THINKING_SWITCH and load_tokenizer(base).eos_token == IM_END
    assert load_tokenizer(plain).chat_template is None
    weights = {folder: load_model(folder).state_dict() for folder in (plain, base)}
    assert all(weights[base][name].equal(value) for name, value in weights[plain].items())
    assert LMPolicy(load_model(base), load_tokenizer(base)).ends == tuple(facts[teacher]["ends"])
    assert json.loads((base / "model/config.json").read_text())["eos_token_id"] == facts[teacher]["ends"]


def test_its_weights_are_links_and_must_not_change(spoken):
    base = spoken / "p/model/base/seed0"
    (file,) = (base / "model").glob("*.safetensors")
    assert file.is_symlink() and file.resolve() == (spoken / "base" / file.name).resolve()
    assert damage(base, read_manifest(base), full=True) is None and where(base) == str(base / "model")


def test_another_vocabulary_is_refused(spoken, tmp_path):
    other = checkpoint(tmp_path / "other", 2, END_OF_TEXT, None, SIZE + 8)
    with pytest.raises(UserError, match=r"speaks: .* have different vocabularies"):
        run(spoken, "model", "other", parents={"speaks": "p/model/teacher/seed0"}, path=other)


def test_a_fresh_model_names_its_tokenizer_itself(spoken):
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    with pytest.raises(UserError, match="speaks: a fresh model has no tokenizer to replace"):
        run(spoken, "model", "fresh", parents={"speaks": "p/model/teacher/seed0"}, config=config, tokenizer="byte")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    write_jsonl(tmp_path / "set/train.jsonl", [{"q": f"{i} + 1?", "a": str(i + 1)} for i in range(6)])
    return str(tmp_path / "set")


def test_prompts_alone_are_asked_and_nobody_judges_them(hub, tmp_path):
    source = {"name": "hf", "path": hub, "prompt": "q", "answer": "", "test_split": ""}
    folder, manifest = run(tmp_path, "data", "alone", source=source, verifier="unjudged")
    assert manifest["facts"]["splits"] == {"train": 6, "test": 0, "ood": 0}
    pool = PromptPool.load(folder, "train", chat_tokenizer(size=SIZE))
    assert pool.task.verifier.judge(["2"], [pool.rows[0]]) == [0.0]
    with pytest.raises(UserError, match="row train-0 has no solution: its source gives prompts alone"):
        pool.written("solution")
    with pytest.raises(UserError, match=r"the answer '' is empty .*6 such rows"):
        run(tmp_path, "data", "judged", source=source, verifier="math")


def test_data_to_evaluate_on_alone_has_no_train_rows_and_says_so_to_who_trains(hub, tmp_path):
    source = {"name": "hf", "path": hub, "prompt": "q", "answer": "a", "train_split": "", "test_split": "train"}
    folder, manifest = run(tmp_path, "data", "eval", source=source, verifier="math")
    assert manifest["facts"]["splits"] == {"train": 0, "test": 6, "ood": 0}
    assert len(PromptPool.load(folder, "test", chat_tokenizer(size=SIZE))) == 6
    with pytest.raises(UserError, match="the train split has no rows"):
        PromptPool.load(folder, "train", chat_tokenizer(size=SIZE))
