"""Functions to write and the tests that judge them, in HumanEval's form; HumanEval itself where the variable HUMANEVAL names its file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.store.artifacts import read_manifest
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.render import response_ids
from opd_steps.tasks.sources.humaneval import HumanEval
from opd_steps.tasks.verifiers.code import Code, program
from tests.unit.test_golds import run

ADD = {
    "task_id": "Own/0",
    "prompt": 'from typing import List\n\n\ndef twice(x: int):\n    return 2 * x\n\n\ndef total(xs: List[int]):\n    """ Twice the sum. """\n',
    "entry_point": "total",
    "canonical_solution": "    return twice(sum(xs))\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == 6\n    assert candidate([]) == twice(0)\n",
}
EVEN = {
    "task_id": "Own/1",
    "prompt": 'def evens(n: int):\n    """ The even numbers below n. """\n',
    "entry_point": "evens",
    "canonical_solution": "    found = []\n    for i in range(n):\n        if i % 2 == 0:\n            found.append(i)\n\n    return found\n",
    "test": "def check(candidate):\n    assert candidate(5) == [0, 2, 4] == evens(5)\n    assert candidate(0) == []\n",
}
ODD = EVEN | {
    "task_id": "Own/2",
    "prompt": EVEN["prompt"].replace("evens", "odds").replace("even", "odd"),
    "entry_point": "odds",
}
ODD |= {
    "canonical_solution": "    return list(range(1, n, 2))\n",
    "test": "def check(candidate):\n    assert candidate(5) == [1, 3]\n",
}
BODY = "    return 2 * sum(xs)\n"
WHOLE = f"def total(xs):\n{BODY}"


def write(file: Path, *problems: dict) -> str:
    file.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return str(file)


@pytest.fixture
def path(tmp_path) -> str:
    return write(tmp_path / "HumanEval.jsonl", ADD, EVEN, ODD)


def test_its_problems_are_test_rows_and_some_may_be_trained_on(path, tmp_path):
    rows = HumanEval(path).rows(0)
    assert {split: len(part) for split, part in rows.items()} == {"train": 0, "test": 3, "ood": 0}
    assert rows == HumanEval(str(tmp_path)).rows(0)
    assert [r["prompt"] for r in rows["test"]] == [p["prompt"] for p in (ADD, EVEN, ODD)]
    assert rows["test"][0]["solution"] == ADD["canonical_solution"] and rows["test"][0]["where"] == f"{path}:1"
    some = HumanEval(path, train=2).rows(0)
    assert (len(some["train"]), len(some["test"])) == (2, 1) and some == HumanEval(path, train=2).rows(0)
    assert {r["prompt"] for part in some.values() for r in part} == {p["prompt"] for p in (ADD, EVEN, ODD)}


def test_a_set_with_train_rows(tmp_path):
    write(tmp_path / "train.jsonl", EVEN, ODD)
    write(tmp_path / "test.jsonl", ADD)
    rows = HumanEval(str(tmp_path)).rows(0)
    assert [len(rows[split]) for split in ("train", "test")] == [2, 1]
    with pytest.raises(UserError, match=r"source.train: .* has train rows of its own"):
        HumanEval(str(tmp_path), train=1).rows(0)
    (tmp_path / "train.jsonl").rename(tmp_path / "one.jsonl")
    with pytest.raises(UserError, match=r"expected train.jsonl and test.jsonl, or one JSONL file; found one.jsonl, test.jsonl"):
        HumanEval(str(tmp_path)).rows(0)


def test_the_data_step_runs_every_solution(path, tmp_path):
    source = {"name": "humaneval", "path": path}
    facts = run(tmp_path, source=source, verifier="code")[1]["facts"]
    assert facts["splits"] == {"train": 0, "test": 3, "ood": 0} and facts["unsolved"] == {"train": 0, "test": 0, "ood": 0}
    write(Path(path), ADD, EVEN | {"canonical_solution": "    return [0]\n"}, ODD)
    assert run(tmp_path / "wrong", source=source, verifier="code")[1]["facts"]["unsolved"]["test"] == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"canonical_solution": "    return (\n"}, "is no Python: '(' was never closed in its solution, line 10"),
        ({"test": "assert total([]) == 0\n"}, "has tests that define no check(candidate)"),
        ({"entry_point": "sum_up"}, "has a prompt that does not begin sum_up"),
    ],
)
def test_a_problem_that_cannot_be_judged_is_refused_with_its_line(path, tmp_path, change, says):
    write(Path(path), EVEN, ADD | change)
    with pytest.raises(UserError, match=rf"{path}:2.*") as caught:
        run(tmp_path, source={"name": "humaneval", "path": path}, verifier="code")
    assert says in str(caught.value)
    assert Code().unreadable("7") == Code().unreadable("{}") == Code().unreadable("seven")
    assert Code().unreadable("7").startswith("is no task in Python: expected JSON with prompt, function, solution, tests")


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        (BODY, 1),
        (ADD["canonical_solution"], 1),  # it calls a helper of the prompt
        ("    return 2 * sum(xs)", 1),
        ("\n" + BODY, 1),
        (BODY + "\n\ndef main():\n    total(1 / 0)\n\nmain()\n", 1),  # a base model writes on
        (BODY + "\n# more\nif __name__ == '__main__':\n    raise SystemExit\n", 1),
        (BODY + "\ndef total(xs):\n    return 0\n", 1),
        (WHOLE, 1),
        ("import math\n\n" + WHOLE, 1),
        (f"Sure!\n\n```python\n{WHOLE}```\nIt doubles.", 1),
        (f"```\n{WHOLE}\n```", 1),
        (f"```python\n{WHOLE}", 1),
        (
            f"First `total`.\n```py\ndef total(xs): return 0\n```\nBetter:\n```py\n{WHOLE}```\nRun:\n```\nprint(total([1]))\n```",
            1,
        ),
        (f"```python\n{BODY}```", 1),
        (f"```python\n{WHOLE}\nassert total([1]) == 2\nprint(total([1]))\n```", 1),
        (f"<think>sum?</think>{WHOLE}", 1),
        (f"<think>{WHOLE}", 0),
        ("    pass\n", 0),
        ("    return sum(xs)\n", 0),
        (BODY.strip(), 0),  # no body without its indentation
        (f"def other(xs):\n{BODY}", 0),
        ("def total(xs):\n    return 2 * su", 0),
        ("def total(xs):\n    return 6", 0),
        (f"Here it is: {WHOLE}", 0),
        ("", 0),
        ("\x00", 0),
    ],
)
def test_what_a_completion_makes_of_a_prompt(completion, score):
    answer = HumanEval._row(HumanEval(), _records(ADD), 0)["answer"]
    assert Code().score(completion, answer) == score


def _records(*problems: dict):
    from opd_steps.tasks.records import Records

    return Records("own", problems)


def test_a_thought_that_never_ended_is_no_program():
    assert program("<think>" + WHOLE, {"prompt": ADD["prompt"], "function": "total"}) is None


def test_limits_are_options():
    answer = HumanEval._row(HumanEval(), _records(ADD), 0)["answer"]
    big = f"    x = bytearray(200 << 20)\n{BODY}"
    assert [Code(memory_mb=size).score(big, answer) for size in (128, 512)] == [0, 1]
    slow = f"    import time\n    end = time.process_time() + 1.2\n    while time.process_time() < end:\n        pass\n{BODY}"
    assert [Code(timeout=seconds).score(slow, answer) for seconds in (1, 10)] == [0, 1]


def test_a_pool_judges_the_samples_of_all_prompts_at_once(path, tmp_path):
    folder, _ = run(tmp_path, source={"name": "humaneval", "path": path}, verifier="code")
    tokenizer = byte_tokenizer()
    pool = PromptPool.load(folder, "test", tokenizer)
    assert tokenizer.decode(pool.contexts([1])[0]) == EVEN["prompt"]
    texts = [
        ADD["canonical_solution"],
        EVEN["canonical_solution"],
        "    pass\n",
        ODD["canonical_solution"],
        BODY,
        "    return []\n",
    ]
    prompts = [0, 1, 0, 2, 0, 1]
    rows = Trajectory(
        pool.contexts(prompts), [torch.tensor(response_ids(tokenizer, text)) for text in texts], torch.tensor(prompts)
    ).with_columns(ended_B=torch.ones(6, dtype=torch.bool))
    assert pool.judge(rows).reward_B.tolist() == [1, 1, 0, 1, 1, 0]


@pytest.mark.skipif("HUMANEVAL" not in os.environ, reason="HUMANEVAL names no file")
def test_every_solution_of_humaneval_passes_and_none_without_its_body(tmp_path):
    folder, manifest = run(tmp_path, source={"name": "humaneval", "path": os.environ["HUMANEVAL"]}, verifier="code")
    assert manifest["facts"]["splits"]["test"] == 164 and manifest["facts"]["unsolved"]["test"] == 0
    assert read_manifest(folder)["facts"] == manifest["facts"]
    tokenizer = byte_tokenizer()
    pool = PromptPool.load(folder, "test", tokenizer)
    assert [tokenizer.decode(ids) for ids in pool.contexts(range(164))] == [row["prompt"] for row in pool.rows]
    assert Code().judge(["    pass\n"] * 164, pool.rows) == [0.0] * 164
    said = [f"```python\n{row['prompt']}{row['solution']}\n```" for row in pool.rows]
    assert Code().judge(said, pool.rows) == [1.0] * 164
