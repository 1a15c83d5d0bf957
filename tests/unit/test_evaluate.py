"""The evaluate step on a tiny model: lm-eval's numbers are those of plain generation, and say the same when run again."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from lm_eval.tasks import TaskManager

from opd_steps.errors import NotFinite, UserError
from opd_steps.evaluation import harness
from opd_steps.evaluation.policy_lm import PolicyLM
from opd_steps.evaluation.split_task import SplitTask
from opd_steps.evaluation.suites.lm_eval import LmEval
from opd_steps.evaluation.vllm_lm import vllm_lm
from opd_steps.findings.results import Result
from opd_steps.models.folder import load_model, load_tokenizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.steps.evaluate import run
from opd_steps.store.artifacts import Job, read_manifest
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.render import completion_text
from tests.unit.tiny_results import char_tokenizer, publish_data, publish_model, tiny_model

OPTIONS = {
    "suite": {"name": "lm_eval"},
    "splits": ["test", "ood"],
    "k": 3,
    "temperature": 1.0,
    "top_p": 1.0,
    "stop": [],
    "max_new_tokens": 6,
    "limit": 0,
    "benchmarks": [],
    "benchmark_data": {},
    "fewshot": None,
    "backend": "hf",
    "by": "",
    "batch": 8,
    "options": {},
}
JUDGE = {"name": "with_confidence", "of": {"name": "exact"}}
PROMPTS = ["1+2=", "{{ 3 }} ", " 4*5 = ?", "7-", "12+34=", "0=", "({[9]})", "5+5="]


def rows_for(prompts: list[str], answers: list[str]) -> list[dict]:
    pairs = enumerate(zip(prompts, answers, strict=True))
    return [{"id": f"r{i}", "prompt": p, "answer": a, "solution": a} for i, (p, a) in pairs]


@torch.no_grad()
def plain_greedy(model, tokenizer, text: str, max_new_tokens: int) -> str:
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_new_tokens)
    return completion_text(tokenizer, out[0, ids.shape[1] :].tolist())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Answers are the model's own greedy completions for half of the rows, so that accuracy is neither 0 nor 1."""
    root = tmp_path_factory.mktemp("evaluate") / "results"
    publish_model(root, "base")
    publish_model(root, "teacher", seed=1)
    tokenizer = char_tokenizer()
    model = tiny_model(tokenizer)
    answers = [plain_greedy(model, tokenizer, p, 6) if i % 2 else "no" for i, p in enumerate(PROMPTS)]
    publish_data(root, "sums", {"test": rows_for(PROMPTS, answers), "ood": rows_for(PROMPTS[:1], ["no"]), "train": []})
    publish_data(root, "chats", {"test": rows_for(PROMPTS, answers)}, chat=True, system="ny")
    return root


def evaluate(results, name: str, data: str = "sums", teacher: str | None = None, **options):
    parents = {"model": "p/model/base/seed0", "data": f"p/data/{data}/seed0"}
    parents |= {"teacher": f"p/model/{teacher}/seed0"} if teacher else {}
    config = {"kind": "evaluate", "seed": 0, "options": OPTIONS | options, "parents": parents}
    folder = results / "p" / "evaluate" / name / "seed0"
    with Job(config, {}, folder / "manifest.json") as job:
        run(job)
    return folder, read_manifest(folder)


@pytest.fixture(scope="module")
def evaluated(results):
    return evaluate(results, "first", teacher="teacher")


def test_greedy_accuracy_is_that_of_plain_generation(results, evaluated):
    folder, manifest = evaluated
    tokenizer = char_tokenizer()
    model = tiny_model(tokenizer)
    rows = read_jsonl(folder / "samples" / "test.jsonl")
    for row in rows:
        assert row["greedy"] == plain_greedy(model, tokenizer, row["prompt"], 6)
    pool = PromptPool.load(results / "p/data/sums/seed0", "test", tokenizer)
    scores = [pool.task.verifier.score(r["greedy"], r["answer"]) for r in rows]
    mean = sum(scores) / len(scores)
    assert 0 < mean < 1
    assert manifest["metrics"]["test/accuracy"] == pytest.approx(mean)
    stderr = (sum((s - mean) ** 2 for s in scores) / (len(scores) - 1) / len(scores)) ** 0.5
    assert manifest["metrics"]["test/accuracy_stderr"] == pytest.approx(stderr)


def test_sampled_figures_follow_from_the_counts(evaluated):
    folder, manifest = evaluated
    counts = [row["c"] for row in read_jsonl(folder / "samples" / "test.jsonl")]
    metrics = manifest["metrics"]
    assert metrics["test/avg_at_k"] == pytest.approx(sum(counts) / 3 / len(counts))
    assert metrics["test/pass_at_k"] == pytest.approx(sum(c > 0 for c in counts) / len(counts))
    result = Result(folder, "")
    for name, value in LmEval.PROMPTS.items():  # what a verdict over prompts reads
        values = result.by_prompt("samples/test.jsonl", value)
        assert list(values) == [f"r{i}" for i in range(8)]
        assert metrics[f"test/{name}"] == pytest.approx(sum(values.values()) / 8)
    table = json.loads((folder / "tables" / "passk.json").read_text())
    assert table["test"]["1"] == pytest.approx(metrics["test/avg_at_k"])
    assert table["test"]["3"] == pytest.approx(metrics["test/pass_at_k"])


def test_everything_promised_is_measured_and_missing_values_are_dropped(evaluated):
    _, manifest = evaluated
    per_split = {f"{name}{end}" for name in ("accuracy", "avg_at_k", "pass_at_k") for end in ("", "_stderr")}
    own = {"own/entropy", "own/length", "own/truncated", "own/repetition", "own/reverse_kl"}
    one_row = {f"ood/{name}" for name in per_split if not name.endswith("_stderr")}  # one prompt has no spread
    assert set(manifest["metrics"]) == {f"test/{n}" for n in per_split} | one_row | own
    assert manifest["metrics"]["own/reverse_kl"] > 0
    assert manifest["facts"]["n_prompts"] == {"test": 8, "ood": 1} and manifest["facts"]["k"] == 3


def test_a_second_run_publishes_the_same_bytes(results, evaluated):
    _, again = evaluate(results, "second", teacher="teacher")
    assert again["files"] == evaluated[1]["files"] and again["metrics"] == evaluated[1]["metrics"]


def test_samples_depend_on_neither_batch_nor_limit(results, evaluated):
    folder, manifest = evaluate(results, "cut", splits=["test"], batch=3, limit=5)
    assert read_jsonl(folder / "samples" / "test.jsonl") == read_jsonl(evaluated[0] / "samples" / "test.jsonl")[:5]
    assert manifest["facts"]["n_prompts"] == {"test": 5}


def test_top_p_cuts_the_tail_of_the_samples_alone(results, evaluated):
    """So small a share leaves the likeliest token: every sample is the greedy answer."""
    folder, manifest = evaluate(results, "cut_tail", splits=["test"], top_p=1e-6)
    assert manifest["metrics"]["test/avg_at_k"] == manifest["metrics"]["test/accuracy"]
    assert all(set(row["samples"]) == {row["greedy"]} for row in read_jsonl(folder / "samples" / "test.jsonl"))
    whole = read_jsonl(evaluated[0] / "samples" / "test.jsonl")
    assert any(set(row["samples"]) != {row["greedy"]} for row in whole)


def test_stop_strings_end_what_is_said_and_judged(results, evaluated):
    """Texts are those without them up to the string; rows, as their statistics say, end with the token that completes it."""
    folder, manifest = evaluated
    before = read_jsonl(folder / "samples" / "test.jsonl")
    stop = [before[1]["greedy"][0], before[2]["samples"][0][:2]]
    cut = lambda text: text[: min([len(text), *(text.find(s) for s in stop if s in text)])]
    ended, after = evaluate(results, "stop", stop=stop)
    rows = read_jsonl(ended / "samples" / "test.jsonl")
    assert [row["greedy"] for row in rows] == [cut(row["greedy"]) for row in before]
    assert [row["samples"] for row in rows] == [[cut(text) for text in row["samples"]] for row in before]
    assert rows != before and after["metrics"]["own/length"] < manifest["metrics"]["own/length"]
    assert after["metrics"]["own/truncated"] <= manifest["metrics"]["own/truncated"]


def test_without_k_nothing_is_sampled(results):
    folder, manifest = evaluate(results, "greedy", splits=["test"], k=0)
    assert not any("at_k" in name for name in manifest["metrics"])
    assert not (folder / "tables" / "passk.json").exists()


def test_what_the_verifier_measures_is_over_all_samples_of_a_split(results):
    publish_data(results, "judged", {"test": rows_for(PROMPTS, ["no"] * 8)}, verifier=JUDGE)
    pool = PromptPool.load(results / "p/data/judged/seed0", "test", char_tokenizer(), limit=2)
    task = SplitTask("test", pool, 2, {"temperature": 1.0}, 6, "<eos>", samples={0: ["noK", "0F"], 1: ["noB", "no"]})
    expected = {"stated": 3 / 4, "confidence": 1.6 / 3, "overconfidence": -0.4 / 3, "brier": (0.25 + 0.81) / 3}
    expected |= {"ece": 1.4 / 3, "spr": 1 / 2}
    assert task.measures() == {f"test/{name}": pytest.approx(value) for name, value in expected.items()}


def test_the_step_publishes_it_where_it_samples(results):
    _, sampled = evaluate(results, "judged", data="judged", splits=["test"], k=2)
    _, greedy = evaluate(results, "judged_greedy", data="judged", splits=["test"], k=0)
    assert sampled["metrics"]["test/stated"] == 0.0  # its tokenizer has no capitals
    assert "test/stated" not in greedy["metrics"]


@pytest.mark.parametrize("data", ["sums", "chats"])
def test_the_model_sees_the_prompt_ids_of_training(results, data, monkeypatch):
    seen = []
    rollout = LMPolicy.rollout
    record = lambda self, contexts, *rest: seen.append([list(c) for c in contexts]) or rollout(self, contexts, *rest)
    monkeypatch.setattr(LMPolicy, "rollout", record)
    evaluate(results, f"ids_{data}", data, splits=["test"], k=2)
    pool = PromptPool.load(results / f"p/data/{data}/seed0", "test", char_tokenizer())
    ids = pool.contexts(list(range(len(pool))))
    own, greedy, sampled = seen
    assert own == greedy == ids and sampled == [i for i in ids for _ in range(2)]


@pytest.mark.parametrize("data", ["sums", "chats"])
def test_lm_evals_own_generation_agrees(results, data):
    """The same greedy task through HFLM's `generate`: other code, same text."""
    model, tokenizer = load_model(results / "p/model/base/seed0", "float32"), load_tokenizer(results / "p/model/base/seed0")
    found = []
    pool = PromptPool.load(results / f"p/data/{data}/seed0", "test", tokenizer)
    for own in ({}, {"test": pool}):
        split = SplitTask("test", pool, 0, {"temperature": 1.0}, 6, tokenizer.eos_token)
        lm = PolicyLM(LMPolicy(model, tokenizer), 0, own)
        harness.evaluate(lm, harness.load_tasks(split.configs(), [], None, 0), 0, pool.task.chat, pool.task.system, 0)
        found.append(split.greedy)
    assert found[0] == found[1]


@pytest.mark.parametrize(("splits", "says"), [(["train"], "train"), (["nowhere"], "nowhere")])
def test_empty_and_unknown_splits_are_refused(results, splits, says):
    with pytest.raises(UserError, match=says):
        evaluate(results, "bad", splits=splits)
    assert not (results / "p/evaluate/bad/seed0").exists()


@pytest.mark.slow
def test_an_unknown_benchmark_is_one_line_with_a_suggestion():
    with pytest.raises(UserError, match=r"^evaluate\.benchmarks: lm-eval has no task 'gsm8kk'; did you mean 'gsm8k'\?$"):
        harness.load_tasks([], ["gsm8kk"], None, 0)


@pytest.mark.slow
def test_a_built_in_task_takes_its_data_from_a_folder(tmp_path):
    rows = [{"question": f"What is {i} + 1?", "answer": f"Easy.\n#### {i + 1}"} for i in range(6)]
    write_jsonl(tmp_path / "train.jsonl", rows[:4])
    write_jsonl(tmp_path / "test.jsonl", rows[4:])
    task = harness.load_tasks([], ["gsm8k"], 2, 0, {"gsm8k": str(tmp_path)})["tasks"]["gsm8k"]
    assert [task.doc_to_text(doc) for doc in task.test_docs()] == [f"Question: {r['question']}\nAnswer:" for r in rows[4:]]
    assert len(task.config.filter_list) == 2  # the task's own, as are its metrics and prompts
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: expected a folder with <split>.jsonl"):
        harness.load_tasks([], ["gsm8k"], 2, 0, {"gsm8k": str(empty)})


def test_results_are_cleaned_and_flattened():
    raw = {
        "results": {
            "code": {"pass@1,create_test": 0.125},
            "gsm8k": {
                "alias": "gsm8k",
                "exact_match,strict-match": 0.5,
                "exact_match_stderr,strict-match": "N/A",
                "sample_len": 3,
            },
            "arc": {"name": "arc", "acc_norm,none": 1},
            "test@8": {"avg_at_k,none": 0.25},
        },
        "date": 17,
        "git_hash": "x",
    }
    cleaned = harness.clean(raw)
    assert cleaned["results"] == {
        "code": {"pass@1,create_test": 0.125},
        "gsm8k": {"exact_match,strict-match": 0.5},
        "arc": {"acc_norm,none": 1.0},
        "test@8": {"avg_at_k,none": 0.25},
    }
    assert not {"date", "git_hash"} & set(cleaned)
    flat = harness.flat_metrics(cleaned["results"])
    assert flat == {
        "code/pass_at_1/create_test": 0.125,
        "gsm8k/exact_match/strict-match": 0.5,
        "arc/acc_norm": 1.0,
        "test/avg_at_k": 0.25,
    }
    raw["results"]["arc"]["acc,none"] = float("nan")
    with pytest.raises(NotFinite, match=r"^task arc: acc,none is nan$"):
        harness.clean(raw)


TOYS = {
    "toy_choice": {"output_type": "multiple_choice", "doc_to_choice": ["3", "4"], "num_fewshot": 1, "fewshot_split": "test"},
    "toy_text": {"output_type": "generate_until", "generation_kwargs": {"until": ["="], "max_gen_toks": 4}},
}


def test_built_in_tasks_run_beside_our_own(results, tmp_path, monkeypatch):
    """Two small tasks stand in for lm-eval's own, whose data lie on the hub; one of them asks for a shot."""
    write_jsonl(tmp_path / "toy.jsonl", [{"q": "1+2=", "a": 0}, {"q": "2+2=", "a": 1}])
    source = {"data_files": {"test": f"{tmp_path}/toy.jsonl"}, "cache_dir": f"{tmp_path}/cache"}
    common = {
        "dataset_path": "json",
        "dataset_kwargs": source,
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
    }
    for name, special in TOYS.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"task": name, **common, **special}))  # JSON is YAML
    toys = lambda include_defaults: TaskManager(include_path=tmp_path, include_defaults=False)
    monkeypatch.setattr(harness, "TaskManager", toys)
    folder, manifest = evaluate(results, "toys", splits=["test"], benchmarks=list(TOYS))
    assert 0 <= manifest["metrics"]["toy_choice/acc"] <= 1
    table = json.loads((folder / "tables" / "results.json").read_text())
    assert table["n-shot"] == {"test": 0, "test@3": 0, "toy_choice": 1, "toy_text": 0}


def test_without_vllm_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"^evaluate\.backend: vllm is not installed"):
        vllm_lm("anywhere", 0, {}, (1,), {})
