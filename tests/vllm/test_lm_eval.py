"""lm-eval through the real vLLM gives the scores that it gives through transformers."""

from __future__ import annotations

import json

import pytest

from opd_steps.errors import UserError
from opd_steps.models.folder import load_tokenizer
from opd_steps.tasks.pool import PromptPool
from tests.pipeline.stages import Stages, edit_json, save_checkpoint
from tests.vllm.conftest import FRESH, sums


def test_the_same_scores_as_through_hf(tmp_path):
    """Greedy answers token for token, and Avg@k within four standard errors: sampling draws differ."""
    stages = Stages(tmp_path / "results")
    sums(stages, train=600, test=60, ood=40)
    stages.run("start", "model", {"data": "data/data"}, config=FRESH | {"initializer_range": 0.05})
    stages.run("base", "pretrain", {"model": "model/start", "data": "data/data"}, steps=150, batch=32, optim={"lr": 1e-2})
    parents, found = {"model": "pretrain/base", "data": "data/data"}, {}
    with pytest.raises(
        UserError,
        match=r"evaluate\.options\.max_model_len: the longest row may have \d tokens of prompt and 24 of answer: expected",
    ):
        stages.run("cut", "evaluate", parents, max_new_tokens=24, backend="vllm", options={"max_model_len": 24})
    for backend, options in (("hf", {}), ("vllm", {"max_model_len": 128})):
        asked = {"splits": ["test", "ood"], "k": 8, "max_new_tokens": 24, "backend": backend, "options": options}
        found[backend] = stages.run(backend, "evaluate", parents, **asked)["metrics"]
    for split in ("test", "ood"):
        hf, vllm = (samples(stages, backend, split) for backend in ("hf", "vllm"))
        assert hf == vllm and len(hf) == {"test": 60, "ood": 40}[split]
        assert found["hf"][f"{split}/accuracy"] == found["vllm"][f"{split}/accuracy"]
    gap = found["hf"]["test/avg_at_k"] - found["vllm"]["test/avg_at_k"]
    assert 0.02 < found["hf"]["test/avg_at_k"] < 0.98
    assert abs(gap) < 4 * (2 * 0.25 / (60 * 8)) ** 0.5
    assert found["hf"]["own/entropy"] == found["vllm"]["own/entropy"]  # measured on the torch model either way


def samples(stages: Stages, backend: str, split: str) -> list[str]:
    """Greedy answers in order."""
    file = stages.results / f"p/evaluate/{backend}/seed0/samples/{split}.jsonl"
    return [json.loads(line)["greedy"] for line in file.read_text().splitlines()]


def test_vllm_is_asked_the_ids_of_training(tmp_path, monkeypatch):
    """An empty system message, names of special tokens and white space, and several end tokens."""
    vllm = pytest.importorskip("vllm")
    stages, seen = Stages(tmp_path / "results"), []
    texts = [" 1+2=\n", "<|im_end|>3+4=<eos>", "5+6= "]
    lines = [{"prompt": text, "answer": str(i)} for i, text in enumerate(texts)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(
            "".join(json.dumps(line | {"prompt": split + line["prompt"]}) + "\n" for line in lines)
        )
    source = {"name": "jsonl", "path": str(tmp_path)}
    stages.run("data", "data", source=source, verifier={"name": "exact"}, chat=True, system="")
    folder = save_checkpoint(tmp_path / "m", **{k: v for k, v in FRESH.items() if k != "tie_word_embeddings"})
    edit_json(folder / "generation_config.json", eos_token_id=[1, 3, 50])
    stages.run("start", "model", path=str(folder))
    generate = vllm.LLM.generate
    record = lambda self, prompts, asked, **k: seen.append((prompts, asked)) or generate(self, prompts, asked, **k)
    monkeypatch.setattr(vllm.LLM, "generate", record)
    options = {"backend": "vllm", "k": 2, "max_new_tokens": 6, "options": {"max_model_len": 128}}
    stages.run("vllm", "evaluate", {"model": "model/start", "data": "data/data"}, splits=["test"], **options)
    tokenizer = load_tokenizer(stages.results / "p/model/start/seed0")
    expected = PromptPool.load(stages.results / "p/data/data/seed0", "test", tokenizer).contexts(range(3))
    asked = [[list(prompt["prompt_token_ids"]) for prompt in prompts] for prompts, _ in seen]
    assert asked == [expected, [ids for ids in expected for _ in range(2)]]
    assert {tuple(sorted(one.stop_token_ids)) for _, many in seen for one in many} == {(1, 3, 50)}
    assert "<|im_start|>system\n<|im_end|>\n" in tokenizer.decode(expected[0])
