"""Presets of scale paper on models and data of their shapes, made on the spot: no hub, two steps, no GPU.

`lay_out` gives the graph of a paper whose data nodes read rows with the columns that the preset names, and whose models are one layer with
random weights: `wide`, of the real hidden size, heads and vocabulary; else small ones. Everything that a preset says of templates, wordings,
columns, methods, temperatures and adapters stays; lengths, batches and numbers of samples are cut, engines local, critics programmatic.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, Qwen2VLImageProcessorPil

from opd_steps.config.load import load_root
from opd_steps.config.needs import terms
from opd_steps.graph.checked import checked
from opd_steps.graph.cost.known import published
from opd_steps.graph.node import GraphNode
from opd_steps.graph.nodes import Graph
from opd_steps.models.families.vl import FIELDS, MARKS
from opd_steps.models.sight import GREY
from opd_steps.models.tokenizers import CHATML
from opd_steps.store.files import write_jsonl
from tests.unit import z_image_toys
from tests.unit.chat_tokenizers import END_OF_TEXT, IM_END, SIZE, THINKING_BEGUN, THINKING_SWITCH, chat_tokenizer
from tests.unit.llada_toys import write_llada
from tests.unit.openvla_toys import write_openvla
from tests.unit.sd3_toys import write_judge, write_pipeline

ROWS = 6
OF_ALL = {"answers", "texts"}  # roles of samples of all prompts
FIRST = 12  # bytes of a text's beginning, and of its continuation
SMALL = 400  # tokens of a small vocabulary
NARROW = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
NARROW_GPT2 = {"n_embd": 64, "n_head": 2}
NARROW_EXPERTS = {"moe_intermediate_size": 48, "num_experts": 4, "num_experts_per_tok": 2}
WIDE_LLADA = {"d_model": 4096, "n_heads": 32, "mlp_hidden_size": 12288}
TIED_FROM = 4096  # hidden size from which the embedding is the head's: with both, 8B beside 32B want over 8 GB
HALVED = ("Qwen/Qwen3-32B",)  # inner width, for the same reason
datasets.disable_progress_bars()
ADAPTER = {"name": "lora", "r": 8, "alpha": 16.0, "dropout": 0.0, "targets": []}


def lay_out(paper: str, folder: Path, wide: bool = False) -> Graph:
    """The checked graph of a paper at scale paper, cut to two steps of few short rows; `folder`: for its data and models."""
    graph = uncut(paper)
    texts = {node.parents[role].key for node in graph.nodes.values() for role in OF_ALL & node.parents.keys()}
    families = {node.options["family"]["name"] for node in graph.nodes.values() if node.kind == "model"}
    budget = 56 if "openvla" in families else 8  # tokens of one look, which nobody cuts
    for node in graph.nodes.values():
        options = node.options
        if node.kind == "data" and options["task"]["name"] == "gallery":
            options["task"] |= {
                "path": str(write_gallery(folder / f"sets/{node.name}", options["verifier"]["name"])),
                "test": 2,
            }
        elif node.kind == "data" and options["task"]["name"] == "captions":
            judge = str(write_judge(folder / "judge"))
            options["task"] |= {"path": str(write_captions(folder / "captions.jsonl")), "test": 2, "side": 8}
            options["task"]["judges"] = dict.fromkeys(options["task"]["judges"], judge)
        elif node.kind == "data" and options["task"]["name"] == "libero":
            options["task"] |= {"side": 8, "settle": 1, "at_once": 2}
        elif node.kind == "data":
            write_source(folder / f"sets/{node.name}", options["source"], node.name)
        elif node.kind == "drafter":
            options["family"]["layers"] = []
        elif node.kind == "model":
            options["path"] = str(write_model(folder / "models" / options["path"].replace("/", "--"), options["path"], wide))
            if "side" in options["family"]:
                options["family"]["side"] = 8
            if "eyes" in options["family"]:
                options["family"]["eyes"] = str(z_image_toys.write_eyes(folder / "eyes"))
            if "block" in options["family"]:  # of a text that is cut, too
                options["family"]["block"] = 4
        if node.says.TRAINS:
            options |= {"steps": 2, "micro_tokens": options["micro_tokens"] and 256, "micro_batch": 2, "checkpoint_every": 2}
            options["keep"] = dict.fromkeys(options["keep"], 1)
        for bound in {"low", "reliable"} & options.get("select", {}).keys():
            options["select"][bound] = 0.0  # no answer of such a model is right
        if "sampling" in options:
            n = options["sampling"]["n"]
            options["sampling"] |= {"max_new_tokens": budget, "n": n if node.key in texts else min(n, 2)}
        for role in ("engine", "teacher_engine"):
            if role in options:
                options[role] |= {"name": "local", "max_model_len": 0, "batch": 4}
        few = {
            "prompts": 2,
            "batch": 2,
            "limit": 2,
            "k": 1,
            "max_new_tokens": budget,
            "backend": "hf",
            "options": {},
            "benchmarks": [],
        }
        options |= {name: value for name, value in few.items() if name in options and node.kind != "data"}
        if node.key in texts:
            options["limit"] = 0
        if node.kind == "rollout" and "openvla" in families:
            options["keep"] = "all"  # such an arm never arrives
        if "minibatches" in options:
            options["minibatches"] = min(options["minibatches"], 2)
        if "dynamic_sampling" in options:
            options["dynamic_sampling"] = False  # such a model is never right: it would sample again until it gives up
        for judge in (*options.get("judges", []), options.get("analysis", {}).get("judge", {})):
            if judge.get("critic", {}).get("name") == "openai_compatible":
                judge["critic"] = {"name": "programmatic", "between": "", "after": ""}
        for row in terms(options["method"]) if node.kind == "opd" else ():
            row["estimator"] |= {"layers": [1], "student_layers": []} if "layers" in row["estimator"] else {}
        if wide and node.says.TRAINS and options["tune"]["name"] == "full" and adapts(node):
            options |= {"tune": ADAPTER, "weights": "bfloat16"}  # moments of all weights would be four times the model
    return graph


def adapts(node: GraphNode) -> bool:
    return node.maker_of(node.says.START).kind != "drafter"  # which is one layer itself


def uncut(paper: str) -> Graph:
    """The checked graph of a paper at scale paper."""
    root = load_root(OmegaConf.to_container(OmegaConf.load("config.yaml")) | {"papers": [paper], "scale": "paper"})
    return checked(Graph.of(root))


def write_source(folder: Path, source: dict, name: str) -> None:
    """Rows as a source reads them, and as those within it do; their paths lead there from now on."""
    mixed = source["name"] == "mixture"
    for key, inner in (source["of"] if mixed else source).items():
        if isinstance(inner, dict) and "name" in inner:
            write_source(folder / key, inner, name if source["name"] == "continued" else f"{name} {key}")
    if source["name"] == "continued":
        source |= {"begin": FIRST, "more": FIRST}
    if write := {"hf": write_set, "gsm8k": write_gsm8k, "humaneval": write_code}.get(source["name"]):
        source["path"] = str(write(folder, source, name))
    if mixed:
        source["train"] = ROWS
    if "train_rows" in source:
        source["train_rows"] = min(source["train_rows"], ROWS)


def write_set(folder: Path, source: dict, name: str) -> Path:
    """A data set with the splits, files and columns that a source `hf` names; the splits have no prompt in common."""
    named = source["files"] or dict.fromkeys(filter(None, (source["train_split"], source["test_split"])), "")
    made = {split: set_rows(source, name, k * ROWS) for k, split in enumerate(named)}
    if not source["files"]:
        datasets.DatasetDict(made).save_to_disk(folder)
    for split, file in source["files"].items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write = made[split].to_json if file.endswith(".json") else made[split].to_parquet
        write(folder / file)
    return folder


def set_rows(source: dict, name: str, first: int) -> datasets.Dataset:
    columns = {source["prompt"]: lambda i: f"What is {i} + 1 in {name}?", source["answer"]: lambda i: str(i + 1)}
    columns |= {source["solution"]: lambda i: f"<think>\n{i} and 1\n</think>\n\nIt is \\boxed{{{i + 1}}}."}
    columns |= {column: lambda i: ("math", "code")[i % 2] for column in source["columns"]}
    columns |= {column: lambda i, text=text: text for column, text in source["where"].items()}
    rows: list[dict] = [{} for _ in range(ROWS)]
    for path, text in columns.items():
        for i, row in enumerate(rows):
            if path:
                put(row, path.split("."), text(first + i))
    return datasets.Dataset.from_list(rows)


def write_gsm8k(folder: Path, source: dict, name: str) -> Path:
    """Questions of three sentences, with worked solutions as GSM8K has them."""
    for split in ("train", "test"):
        rows = [
            {
                "question": f"There are {i} in {name} {split}. One more comes. How many are there?",
                "answer": f"{i} and 1 are {i + 1}.\n#### {i + 1}",
            }
            for i in range(ROWS)
        ]
        write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


def write_gallery(folder: Path, verifier: str) -> Path:
    """Pictures with the box of a part; videos, where an interval is asked for."""
    draw, rows = np.random.default_rng(0), []
    for i in range(2 * ROWS):
        for k in range(6 if verifier == "interval" else 1):
            (folder / f"{i}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (40, 72, 3), dtype=np.uint8)).save(folder / f"{i}/{k}.png")
        shown = (
            {"frames": f"{i}", "answer": "1-2"}
            if verifier == "interval"
            else {"image": f"{i}/0.png", "box": [4, 4, 36, 36], "answer": "B"}
        )
        rows.append({"prompt": f"What is in number {i}?", **shown})
    write_jsonl(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def write_captions(file: Path) -> Path:
    """Prompts of two tasks, of words that the toys know, the first's with an image."""
    Image.new("RGB", (8, 8), (255, 0, 0)).save(file.with_name("red.png"))
    kinds = {"prompt": "a red cat", "task": "first", "image": "red.png"}, {"prompt": "a cat", "task": "second"}
    write_jsonl(file, [kinds[i % 2] for i in range(2 * ROWS)])
    return file


def write_code(folder: Path, source: dict, name: str) -> Path:
    """One function to be written, as HumanEval has them."""
    task = {"prompt": f"def {name}(x):\n", "entry_point": name, "canonical_solution": "    return x\n"}
    write_jsonl(folder / "test.jsonl", [task | {"test": "def check(candidate):\n    assert candidate(1) == 1\n"}])
    return folder


def put(into: Any, path: list[str], value: str) -> None:
    """Set what lies at a path through mappings and lists, both made where they are missing."""
    step, *rest = path
    if isinstance(into, list):
        step = int(step)
        into += [{} for _ in range(step + 1 - len(into))]
    if not rest:
        into[step] = value
        return
    if isinstance(into, dict) and step not in into:
        into[step] = [] if rest[0].isdecimal() else {}
    put(into[step], rest, value)


def write_model(folder: Path, name: str, wide: bool) -> Path:
    """One layer of a published model with random weights in bf16, and a tokenizer with its ends and a template of its kind; of LLaDA a
    model of its form, with its own code (tests/unit/own_code)."""
    if folder.exists():
        return folder
    if "LLaDA" in name:
        size, sizes = (SIZE, WIDE_LLADA) if wide else (SMALL, {})
        return write_llada(folder, chat_tokenizer(CHATML, END_OF_TEXT, size), **sizes)
    if "stable-diffusion" in name:
        return write_pipeline(folder)
    if "Z-Image" in name:
        return z_image_toys.write_pipeline(folder)
    if "OpenVLA" in name:
        return write_openvla(folder, "libero_130_no_noops_trajall", 256)
    if published()[name]["model_type"] == "qwen3_vl":
        return write_seeing(folder, published()[name], wide)
    gpt2 = published()[name]["model_type"] == "gpt2"
    shape = published()[name] | ({"n_layer": 1} if gpt2 else {"num_hidden_layers": 1})
    if wide:
        shape |= {"tie_word_embeddings": shape.get("tie_word_embeddings", True) or shape["hidden_size"] >= TIED_FROM}
        shape |= {"intermediate_size": shape["intermediate_size"] // 2} if name in HALVED else {}
    else:
        narrow = NARROW_GPT2 if gpt2 else NARROW
        shape |= narrow | {"vocab_size": SMALL + 24} | (NARROW_EXPERTS if "num_experts" in shape else {})
    begun = "DeepSeek" in name
    end = END_OF_TEXT if begun or gpt2 or name.endswith("-Base") else IM_END
    template = THINKING_BEGUN if begun else CHATML if "2507" in name or end == END_OF_TEXT else THINKING_SWITCH
    tokenizer = chat_tokenizer(template, end, min(SIZE, shape["vocab_size"]) if wide else SMALL)
    config = AutoConfig.for_model(**shape, initializer_range=0.05, eos_token_id=tokenizer.eos_token_id)
    return save_random(folder, config, tokenizer, [end] if end == END_OF_TEXT else [IM_END, END_OF_TEXT], AutoModelForCausalLM)


def write_seeing(folder: Path, shape: dict, wide: bool) -> Path:
    """One layer of language and of vision, that reads a chat."""
    text, eyes = (
        shape["text_config"] | {"num_hidden_layers": 1},
        shape["vision_config"] | {"depth": 1, "deepstack_visual_indexes": [0]},
    )
    tied = shape["tie_word_embeddings"] or text["hidden_size"] >= TIED_FROM
    if not wide:
        text |= NARROW | {
            "vocab_size": SMALL + 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 4, 4]},
        }
        eyes |= {"hidden_size": 64, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": NARROW["hidden_size"]}
    tokenizer = copy.deepcopy(chat_tokenizer(CHATML, IM_END, SIZE if wide else SMALL))  # tests share some
    tokenizer.add_tokens(list(MARKS), special_tokens=True)
    marks = dict(zip(FIELDS, tokenizer.convert_tokens_to_ids(list(MARKS)), strict=True))
    text |= {"eos_token_id": tokenizer.eos_token_id, "initializer_range": 0.05}
    config = AutoConfig.for_model("qwen3_vl", text_config=text, vision_config=eyes, tie_word_embeddings=tied, **marks)
    sides = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "image_mean": GREY, "image_std": GREY}
    Qwen2VLImageProcessorPil(**sides, min_pixels=1024, max_pixels=1 << 24).save_pretrained(folder)
    return save_random(folder, config, tokenizer, [IM_END, END_OF_TEXT], AutoModelForImageTextToText)


def save_random(folder: Path, config, tokenizer, ends: list[str], auto: type) -> Path:
    torch.manual_seed(len(folder.name))
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = auto.from_config(config, dtype=torch.bfloat16)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0) if parameter.ndim == 1 else parameter.normal_(0, 0.05)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
