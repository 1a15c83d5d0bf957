"""Ways in which a given checkpoint is none, is unsafe or does not fit, and what is said of each."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from tests.pipeline.stages import edit_json

GENERATION = "generation_config.json"


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def cut_header(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def own_code(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"})
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(folder / 'fired')!r})\n")


def edit_weights(folder: Path, edit) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def nan(weights: dict) -> None:
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")


def infinite(weights: dict) -> None:
    weights["model.norm.weight"] = weights["model.norm.weight"].half() * 1e5


def own_head(weights: dict) -> None:
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1


def left_over(weights: dict) -> None:
    weights["value_head.weight"] = torch.ones(1, 32)


def float8(weights: dict) -> None:
    weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].to(torch.float8_e4m3fn)


def int8(weights: dict) -> None:
    weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].to(torch.int8)


def edit_core(folder: Path, edit) -> None:
    core = json.loads((folder / "tokenizer.json").read_text())
    edit(core)
    (folder / "tokenizer.json").write_text(json.dumps(core))


def lead(core: dict) -> None:
    first, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    known = {"<s>": {"id": "<s>", "ids": [999], "tokens": ["<s>"]}}
    core["post_processor"] = {"type": "TemplateProcessing", "single": [first, text], "pair": [], "special_tokens": known}


def numbered_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    edit_json(folder / "tokenizer_config.json", chat_template=3)


def quantised(folder: Path, **how) -> None:
    edit_json(folder / "config.json", quantization_config=how)


def gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "m.Q4_K.gguf")


def longer_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<{i}>" for i in range(301 - len(tokenizer))])
    tokenizer.save_pretrained(folder)


def encoder(folder: Path) -> None:
    config = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **config)).save_pretrained(folder)
    edit_json(folder / "config.json", architectures=["BertLMHeadModel"])


REFUSED = {
    "fewer layers than weights": (
        lambda f: edit_json(f / "config.json", num_hidden_layers=1, layer_types=["full_attention"]),
        r"the weights hold model\.layers\.1\.input_layernorm\.weight, which config.json has no place for \(11 such in all\)",
    ),
    "more layers than weights": (
        lambda f: edit_json(f / "config.json", num_hidden_layers=3, layer_types=["full_attention"] * 3),
        r"the weights lack model\.layers\.2\.input_layernorm\.weight",
    ),
    "another width": (
        lambda f: edit_json(f / "config.json", hidden_size=64),
        r"do not fit config.json: model\.\S+ is \[.*\], expected \[.*\]",
    ),
    "a nan": (
        lambda f: edit_weights(f, nan),
        r"model.safetensors: model\.layers\.1\.mlp\.up_proj\.weight holds values that are not",
    ),
    "an infinity in float16": (
        lambda f: edit_weights(f, infinite),
        r"model.safetensors: model\.norm\.weight holds values that are not",
    ),
    "a head that is tied to other weights": (
        lambda f: edit_weights(f, own_head),
        r"says that lm_head\.weight is model\.embed_tokens",
    ),
    "a tensor of nobody's": (lambda f: edit_weights(f, left_over), r"the weights hold value_head\.weight, which"),
    "GPTQ": (lambda f: quantised(f, quant_method="gptq", bits=4, group_size=128), r"its weights are quantised \(gptq\)"),
    "AWQ": (lambda f: quantised(f, quant_method="awq", bits=4), r"its weights are quantised \(awq\)"),
    "bitsandbytes": (lambda f: quantised(f, quant_method="bitsandbytes", load_in_4bit=True), r"quantised \(bitsandbytes\)"),
    "GPTQ of old": (lambda f: (f / "quantize_config.json").write_text("{}"), r"quantised \(quantize_config.json\)"),
    "float8": (lambda f: edit_weights(f, float8), r"model\.layers\.0\.mlp\.up_proj\.weight is quantised \(F8_E4M3\)"),
    "GGUF": (gguf, r"m\.Q4_K\.gguf is a GGUF file, of quantised weights"),
    "a generation config that is no JSON": (
        lambda f: (f / GENERATION).write_text("{"),
        "generation_config.json: not a generation",
    ),
    "a generation config that is a list": (
        lambda f: (f / GENERATION).write_text("[1]"),
        "generation_config.json: not a generation",
    ),
    "a padding id without a row": (
        lambda f: edit_json(f / "config.json", pad_token_id=300),
        "pad_token_id is 300, .* 300 rows",
    ),
    "a tokenizer with a token more than the embedding": (longer_tokenizer, r"the token '<40>' = 300, the embedding 300 rows"),
    "an encoder": (lambda f: edit_json(f / "config.json", model_type="t5"), "expected a causal language model; .* type 't5'"),
    "a classifier": (
        lambda f: edit_json(f / "config.json", architectures=["Qwen3ForSequenceClassification"]),
        "expected a causal language model, found Qwen3ForSequenceClassification",
    ),
    "an encoder that could decode": (encoder, "is_decoder: true alone; this one is an encoder"),
    "an empty folder": (lambda f: [p.unlink() for p in f.iterdir()], "checkpoint: not a checkpoint: no config.json"),
    "config.json is no JSON": (lambda f: (f / "config.json").write_text("{"), "not a checkpoint: no config.json"),
    "a config of wrong types": (lambda f: edit_json(f / "config.json", hidden_size="many"), "config.json: .*hidden_size"),
    "a config at odds with itself": (lambda f: edit_json(f / "config.json", num_hidden_layers=4), "config.json: .*layer"),
    "code of its own": (own_code, "config.json: .*custom code"),
    "pickles alone": (pickle_only, r"no \*\.safetensors \(model.ckpt is a pickle, which is never loaded"),
    "truncated weights": (truncate, "model.safetensors: not a safetensors file"),
    "a truncated header": (cut_header, "model.safetensors: not a safetensors file"),
    "an index that is no JSON": (lambda f: (f / "model.safetensors.index.json").write_text("{"), "index.json: not the index"),
    "an index of nothing": (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "index.json: not the index"),
    "a tokenizer that is none": (lambda f: (f / "tokenizer.json").write_text('{"model": 1}'), "cannot load this tokenizer"),
    "a tokenizer of no known version": (
        lambda f: edit_json(f / "tokenizer.json", version=""),
        r"/tokenizer\.json: cannot load",
    ),
    "a truncation that is text": (lambda f: edit_json(f / "tokenizer.json", truncation="x"), r"/tokenizer\.json: cannot load"),
    "a tokenizer that draws": (
        lambda f: edit_core(f, lambda core: core["model"].update(dropout=0.5)),
        r"/tokenizer\.json: model\.dropout is 0\.5",
    ),
    "a tokenizer without tokens": (
        lambda f: edit_core(f, lambda core: core["model"].update(vocab={})),
        "no tokens that a text could be made of",
    ),
    "a leading token that is none": (lambda f: edit_core(f, lead), r"the tokenizer's leading token is 999"),
    "a padding token that is a number": (
        lambda f: edit_json(f / "tokenizer_config.json", pad_token=3),
        r"/tokenizer_config\.json: cannot load this tokenizer: .*pad_token",
    ),
    "special tokens that are none": (
        lambda f: edit_json(f / "tokenizer_config.json", extra_special_tokens=3),
        r"/tokenizer_config\.json: cannot load this tokenizer: extra_special_tokens must",
    ),
    "a length that is text": (
        lambda f: edit_json(f / "tokenizer_config.json", model_max_length="x"),
        r"/tokenizer_config\.json: model_max_length: expected a number, found 'x'",
    ),
    "names of inputs that are none": (
        lambda f: edit_json(f / "tokenizer_config.json", model_input_names=3),
        r"/tokenizer_config\.json: cannot load this tokenizer",
    ),
    "a class that is no name": (
        lambda f: edit_json(f / "tokenizer_config.json", tokenizer_class=3),
        r"/tokenizer_config\.json: cannot load this tokenizer",
    ),
    "a chat template that is a number": (numbered_template, "chat_template: expected text, or several texts by name, found 3"),
    "architectures that are no names": (
        lambda f: edit_json(f / "config.json", architectures=[0.5]),
        r"config\.json: architectures: expected a list of names",
    ),
    "int8": (lambda f: edit_weights(f, int8), r"model\.layers\.0\.mlp\.up_proj\.weight is quantised \(I8\)"),
    "no end token": (lambda f: edit_json(f / "tokenizer_config.json", eos_token=None), "has no end token"),
}
