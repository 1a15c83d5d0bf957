"""A tiny Qwen3 with a character tokenizer and a small data set, published as results that a job can read."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from opd_steps.store.artifacts import MANIFEST, sealed
from opd_steps.store.files import write_json, write_jsonl
from opd_steps.store.fingerprint import file_entry

CHAT = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}=>{% endif %}"


def char_tokenizer() -> PreTrainedTokenizerFast:
    tokens = ["<pad>", "<eos>", "<unk>", *"0123456789+-*=>? [](){}", *"aemnrstuyi"]
    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    tokenizer.chat_template = CHAT
    return tokenizer


def tiny_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    ends = dict(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None)
    config = Qwen3Config(
        vocab_size=len(tokenizer), intermediate_size=64, max_position_embeddings=128, initializer_range=0.3, **shape, **ends
    )
    return Qwen3ForCausalLM(config).eval()


def publish(folder: Path, facts: dict) -> None:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    entries = {str(p.relative_to(folder)): file_entry(p) for p in files}
    manifest = {"fingerprint": str(folder.name), "files": entries, "facts": facts, "metrics": {}, "parents": {}}
    write_json(folder / MANIFEST, sealed(manifest))


def publish_model(results: Path, name: str, seed: int = 0) -> str:
    folder = results / "p" / "model" / name / "seed0"
    tokenizer = char_tokenizer()
    tiny_model(tokenizer, seed).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    publish(folder, {"family": {"name": "causal_lm"}})
    return str(folder.relative_to(results))


def publish_data(results: Path, name: str, splits: dict[str, list[dict]], **facts) -> str:
    folder = results / "p" / "data" / name / "seed0"
    for split, rows in splits.items():
        write_jsonl(folder / f"{split}.jsonl", rows)
    plugs = {"task": {"name": "prompts"}, "verifier": {"name": "exact"}, "hints": {"name": "none"}}
    publish(folder, plugs | {"chat": False, "system": None, "template": {}, "bos": "auto"} | facts)
    return str(folder.relative_to(results))
