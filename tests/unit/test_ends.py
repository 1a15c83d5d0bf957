"""Every end token that a checkpoint lists ends a row: when it is loaded, sampled from, published and compared."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from opd_steps.errors import UserError
from opd_steps.graph import agreement
from opd_steps.models.ends import end_ids, model_ends, stated_ends
from opd_steps.models.folder import load_model, load_tokenizer, save_model
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.tokenizers import char_tokenizer
from opd_steps.rollout.local import decode
from opd_steps.store.artifacts import read_manifest
from opd_steps.tasks.render import completion_text
from tests.pipeline.stages import Stages, edit_json, save_checkpoint
from tests.unit.tiny import qwen

SUMS = {"source": {"name": "arithmetic", "train": 40, "test": 10, "ood": 5}, "verifier": {"name": "exact", "after": "="}}


def test_the_first_of_several_end_tokens_ends_a_row():
    """Each of eight tokens has probability 1/8: the rows are those of one end token, cut at the first of either."""
    model, args = qwen(tie=False), {"max_new_tokens": 6, "vocab": 8, "pad_id": 22}
    torch.nn.init.zeros_(model.lm_head.weight)
    contexts = [[4, 5 + i % 7] for i in range(60)]
    one, logp_one, _ = decode(model, contexts, range(60), ends=[23], **args)  # 23 is never said
    rows, logp, ended = decode(model, contexts, range(60), ends=[1, 3], **args)
    for whole, row, p, all_p, stopped in zip(one, rows, logp, logp_one, ended, strict=True):
        at = next((i for i, token in enumerate(whole.tolist()) if token in (1, 3)), None)
        cut = whole.tolist() if at is None else whole.tolist()[: at + 1]  # the end token that was said is the row's last
        assert (row.tolist(), stopped) == (cut, at is not None)
        torch.testing.assert_close(p, all_p[: len(p)], rtol=1e-4, atol=1e-5)
    assert {row[-1].item() for row, stopped in zip(rows, ended, strict=True) if stopped} == {1, 3}
    assert {len(row) for row in rows} > {1, 2, 3} and False in ended


def test_config_generation_config_and_tokenizer_are_read(tmp_path):
    folder = save_checkpoint(tmp_path / "m")
    assert stated_ends(folder) == [1]
    edit_json(folder / "generation_config.json", eos_token_id=[1, 3])
    edit_json(folder / "config.json", eos_token_id=[7, 50256])  # the second is beyond the embedding: GPT-2's, left in place
    assert stated_ends(folder) == [1, 3, 7]
    model, tokenizer = load_model(_node(folder)), load_tokenizer(_node(folder))
    assert model_ends(model, tokenizer) == (1, 3, 7)
    tokenizer.eos_token = "<|im_start|>"  # 2
    assert model_ends(model, tokenizer) == (1, 2, 3, 7) and end_ids(tokenizer) == (2,)
    assert LMPolicy(model, tokenizer).ends == (1, 2, 3, 7)


def _node(checkpoint):
    """A model node's folder around a checkpoint."""
    node = checkpoint.parent / "node"
    if not node.exists():
        node.mkdir()
        (node / "model").symlink_to(checkpoint)
    return node


def test_what_training_publishes_keeps_them(tmp_path):
    folder = save_checkpoint(tmp_path / "m")
    edit_json(folder / "generation_config.json", eos_token_id=[1, 3])
    save_model(load_model(_node(folder)), load_tokenizer(_node(folder)), tmp_path / "again")
    assert stated_ends(tmp_path / "again") == [1, 3]


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("cls", [LlamaForCausalLM, GPT2LMHeadModel])
def test_an_architectures_default_ends_nothing(tmp_path, cls, written):
    """Llama's config class says 2, GPT-2's 50256, where a checkpoint says nothing."""
    small = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**small, intermediate_size=32) if cls is LlamaForCausalLM else GPT2Config(**small)
    folder = save_checkpoint(tmp_path / "m")
    tokenizer = load_tokenizer(_node(folder))
    torch.manual_seed(0)
    model = cls(config)
    model.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        values = json.loads((folder / name).read_text())
        values.pop("eos_token_id", None)
        (folder / name).write_text(json.dumps(values))
    if not written:
        (folder / "generation_config.json").unlink()
    loaded = load_model(_node(folder))
    assert model_ends(loaded, tokenizer) == (1,)
    save_model(loaded, tokenizer, tmp_path / "again")
    assert stated_ends(tmp_path / "again") == []


@pytest.mark.parametrize("value", ["<eos>", [1, "x"], -1, 1.5, True, [[1]]])
def test_what_is_no_token_id_is_refused_by_file(tmp_path, value):
    folder = save_checkpoint(tmp_path / "m")
    edit_json(folder / "generation_config.json", eos_token_id=value)
    with pytest.raises(UserError, match=r"generation_config\.json: eos_token_id: expected token ids"):
        stated_ends(folder)


def test_the_text_of_a_row_leaves_its_end_token_out():
    """Also one that is no special token, as a line break that a checkpoint lists as an end."""
    tokenizer = char_tokenizer("ab\n")
    assert completion_text(tokenizer, [3, 4, 2], ended=True) == "ab" and completion_text(tokenizer, [3, 4, 2]) == "ab\n"


def test_steps_sample_with_them_and_preflight_compares_them(tmp_path):
    stages, folder = Stages(tmp_path / "results"), save_checkpoint(tmp_path / "m", vocab_size=300)
    other = save_checkpoint(tmp_path / "n", vocab_size=300)
    ends = list(range(1, 120))  # a random model says one of these within a few tokens
    edit_json(folder / "generation_config.json", eos_token_id=ends)
    stages.run("data", "data", **SUMS)
    stages.run("m", "model", path=str(folder))
    stages.run("n", "model", path=str(other))
    assert read_manifest(stages.results / "p/model/m/seed0")["facts"]["ends"] == ends
    found = {
        name: stages.run(name, "rollout", {"policy": f"model/{name}", "data": "data/data"}, sampling={"max_new_tokens": 24})
        for name in ("m", "n")
    }
    assert found["m"]["metrics"]["rollout/truncated"] < 0.1 < 0.8 < found["n"]["metrics"]["rollout/truncated"]
    pair = {"node": "opd", "left": "p/model/m/seed0", "right": "p/model/n/seed0"}
    with pytest.raises(UserError, match=r"node opd: .* have different end tokens: \[1, 2, .*\] and \[1\]"):
        agreement.check_pairs(stages.results, [pair])
