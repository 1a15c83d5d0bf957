"""Answers of a data set are judged whole: each is read, or refused with its place, or left out and counted."""

from __future__ import annotations

import json

import pytest

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.steps.data import data
from opd_steps.store.artifacts import Job, read_manifest
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.golds import unreadable
from opd_steps.tasks.records import Records, from_jsonl
from opd_steps.tasks.sources.gsm8k import Gsm8k
from opd_steps.tasks.verifiers.math import Math
from opd_steps.tasks.verifiers.numeric import Numeric

GOOD = [{"prompt": f"{i}?", "answer": i} for i in range(150)]


def run(root, **options):
    checked = merge(KINDS["data"], {"kind": "data", **options}, "data")
    kept = {k: v for k, v in checked.items() if k not in {"kind", "seed", "resources"}}
    folder = root / "p" / "data" / "sums" / "seed0"
    with Job(
        {"kind": "data", "options": kept, "parents": {}, "seed": 0}, {}, folder / "manifest.json", KINDS["data"].sources(kept)
    ) as job:
        data(job)
    return folder, read_manifest(folder)


def write(folder, train: list[dict], **splits: list[dict]) -> dict:
    folder.mkdir(exist_ok=True)
    for split, rows in {"train": train, **splits}.items():
        (folder / f"{split}.jsonl").write_text("\n" + "".join(json.dumps(row) + "\n" for row in rows))
    return {"name": "jsonl", "path": str(folder)}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("10:30", "the answer '10:30' is no number; take the verifier exact or math"),
        ("", "the answer '' is empty"),
        (" ", "is empty"),
        ("nan", "is no number"),
        ("seven", "is no number"),
        (float("nan"), "NaN is no number"),
        (float("inf"), "Infinity is no number"),
        (None, "column 'answer' is NoneType"),
        (True, "column 'answer' is bool"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test", "ood"])
def test_an_answer_that_cannot_be_read_is_refused_with_its_line(tmp_path, answer, problem, split):
    rows = {"train": GOOD, "test": [{"prompt": "t", "answer": 1}], "ood": [{"prompt": "o", "answer": 2}]}
    rows[split] = [*rows[split], {"prompt": "bad", "answer": answer}]
    source = write(tmp_path / "set", **rows)
    line = len(rows[split]) + 1
    with pytest.raises(UserError) as error:
        run(tmp_path, source=source)
    assert str(error.value).startswith(f"{tmp_path / 'set' / split}.jsonl:{line}: ") and problem in str(error.value)


@pytest.mark.parametrize("verifier", ["numeric", "exact", "math", "json_ranking"])
def test_an_empty_answer_is_refused_by_every_verifier(tmp_path, verifier):
    rows = [{"prompt": "a", "answer": '["a"]', "solution": "s"}, {"prompt": "b", "answer": "", "solution": "s"}]
    with pytest.raises(UserError, match=r"train.jsonl:(3: the answer '' is empty|2: .* is no number)"):
        run(tmp_path, source=write(tmp_path / "set", rows), verifier={"name": verifier})


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_no_number_of_a_hub_data_set_is_refused_with_its_row(value):
    with pytest.raises(UserError, match=rf"org/set:train\[1\]: column 'answer' is {value}, no value"):
        Records("org/set:train", [{"prompt": "a", "answer": 1.5}, {"prompt": "b", "answer": value}]).to_rows("prompt", "answer")


def test_unreadable_rows_can_be_left_out_and_are_counted(tmp_path, capsys):
    rows = [*GOOD, {"prompt": "when?", "answer": "10:30"}, {"prompt": "who?", "answer": "Bob"}]
    options = {"source": write(tmp_path / "set", rows), "drop_unreadable": True}
    folder, manifest = run(tmp_path, **options)
    assert [r["answer"] for r in read_jsonl(folder / "train.jsonl")] == [str(i) for i in range(150)]
    assert manifest["facts"]["unreadable"] == {"train": 2, "test": 0, "ood": 0}
    said = capsys.readouterr().err
    assert "train: left out 2 of 152 rows" in said and "train.jsonl:152: the answer '10:30' is no number" in said


def test_json_numbers_are_read_by_value(tmp_path):
    golds = [1e-07, 5e-324, 1e22, 0.1, -3, 10**30, 2.0]
    source = write(tmp_path / "set", [{"prompt": str(i), "answer": gold} for i, gold in enumerate(golds)])
    answers = [row["answer"] for row in read_jsonl(run(tmp_path, source=source)[0] / "train.jsonl")]
    right = ["0.0000001", "5e-324", "10,000,000,000,000,000,000,000", ".1", "-3.0", "10^30", "2"]
    assert [[Numeric().score(text, answer) for answer in answers] for text in right] == [
        [float(i == j) for j in range(len(golds))] for i in range(len(golds))
    ]


def test_solutions_that_are_not_judged_right_are_counted_and_said(tmp_path, capsys):
    rows = [{"prompt": str(i), "answer": i, "solution": f"#### {i + (i == 120)}"} for i in range(150)]
    source = write(tmp_path / "set", rows) | {"solution": "solution"}
    manifest = run(tmp_path, source=source)[1]
    assert manifest["facts"]["unsolved"] == {"train": 1, "test": 0, "ood": 0}
    assert (
        "train: the verifier rejects 1 of 150 solutions, first" in (said := capsys.readouterr().err)
        and "train.jsonl:122" in said
    )


def test_places_are_not_published(tmp_path):
    folder, _ = run(tmp_path, source=write(tmp_path / "set", GOOD))
    assert set(read_jsonl(folder / "train.jsonl")[0]) == {"id", "prompt", "answer", "solution", "corpus", "meta"}


def test_places_of_a_large_file_are_found_in_one_reading(tmp_path, monkeypatch):
    records = from_jsonl(write(tmp_path / "set", GOOD)["path"])["train"]
    assert records.where(0).endswith("train.jsonl:2")
    (tmp_path / "set" / "train.jsonl").unlink()
    assert records.where(149).endswith("train.jsonl:151")


def test_a_gsm8k_answer_that_is_no_number_is_refused_with_its_line(tmp_path):
    rows = [{"question": str(i), "answer": f"so\n#### {a}"} for i, a in enumerate(["1,080", "7", "7 or 8"])]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"train.jsonl:3: the answer '7 or 8' is no number"):
        run(tmp_path, source={"name": "gsm8k", "path": str(tmp_path)})
    found = Gsm8k(str(tmp_path)).rows(0)["train"]
    assert [row["answer"] for row in found] == ["1080", "7", "7 or 8"]


# how the answers of MATH are spelled (arXiv 2103.03874)
MATH = r"""
2 | -\frac{3}{4} | \frac{\sqrt{3}}{2} | 10,\!080 | 1{,}025 | (3, \tfrac{\pi}{2}) | x^2 + 2x + 1 | [2,5) | x = 5 | 3+4i | \pi
(-\infty, 1) \cup (3, \infty) | 90^\circ | \$18.90 | 50\% | 25\text{ cm}^2 | \text{Tuesday} | \text{(A)} | 1011_2 | 2\sqrt{3}
3 \text{ and } 4 | -1, 2 | \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} | 0.\overline{3} | 5! | \log_2 3 | e^{i\pi} | 6:30
\{1,2,3\} | \dfrac{1}{2} | 1\frac{1}{2} | .5 | AB | \text{Navin} | \binom{5}{2} | 2^{10} | \sin^2 x | y = 2x + 1 | 7\text{ or }8
12\text{ p.m.} | \frac{1}{x+1} | \left( \frac{1}{2}, 3 \right) | \left\lfloor x \right\rfloor | \mathbf{v} | -\infty | \emptyset
"""
MATH = [gold.strip() for line in MATH.strip().split("\n") for gold in line.split(" | ")]


@pytest.mark.parametrize("gold", MATH)
def test_golds_of_math_are_read_and_score_against_their_own_solution(gold):
    assert unreadable(Math(), gold) == ""
    assert Math().score(f"Hence the answer is $\\boxed{{{gold}}}$.", gold) == 1.0
    others = [other for other in MATH[::7] if other != gold]
    assert not any(Math().score(f"$\\boxed{{{other}}}$", gold) for other in others)


def test_rows_without_an_answer_can_be_left_out_too(tmp_path):
    rows = [*GOOD, {"prompt": "none?", "answer": ""}]
    _, manifest = run(tmp_path, source=write(tmp_path / "set", rows), drop_unreadable=True)
    assert manifest["facts"]["unreadable"] == {"train": 1, "test": 0, "ood": 0}
