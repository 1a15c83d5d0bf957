"""Large data sets: read as they come, written as they come, and left on disk by who trains on them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.loop.batches import fixed_rows
from opd_steps.models.tokenizers import char_tokenizer
from opd_steps.store.jsonl import Lines, read_jsonl
from opd_steps.tasks import pool as pools
from opd_steps.tasks.sources.hf import HuggingFace
from tests.unit.test_config_wrappers import graph
from tests.unit.test_tasks_steps import SUMS, run

BIG = 200_000


def hub_set(folder, rows: int, test: int = 3):
    """Files of a data set, as they lie on the hub: `<i>?` is answered i."""
    folder.mkdir(exist_ok=True)
    for name, low, high in (("train.jsonl", 0, rows), ("test.jsonl", rows, rows + test)):
        (folder / name).write_text("".join(f'{{"q": "{i}?", "a": "{i}", "s": "it is {i}"}}\n' for i in range(low, high)))
    return HuggingFace(str(folder), prompt="q", answer="a", solution="s", stream=50)


def taken(source: HuggingFace, seed: int = 0) -> list[str]:
    return [row["prompt"] for row in source.rows(seed)["train"]]


def test_a_streamed_set_has_the_rows_of_the_whole_one_in_an_order_of_the_seed(tmp_path):
    source = hub_set(tmp_path / "set", 300)
    whole = replace(source, stream=0).rows(0)
    first, found = taken(source), source.rows(0)
    assert taken(source) == first != taken(source, 1) and sorted(first) == sorted(r["prompt"] for r in whole["train"])
    assert found["test"] == whole["test"] and [r["prompt"] for r in found["test"]] == ["300?", "301?", "302?"]
    places = [int(prompt[:-1]) for prompt in first]
    assert places != sorted(places) and max(i - place for i, place in enumerate(places)) > 20  # mixed within the buffer
    assert [row["id"] for row in found["train"]][:2] == ["train-0", "train-1"]


def test_the_first_rows_behind_the_shuffle_are_taken_and_held_out(tmp_path):
    source = hub_set(tmp_path / "set", 300)
    assert taken(replace(source, train_rows=40)) == taken(source)[:40]
    held = replace(source, train_rows=40, test_split="", test=5)
    found = held.rows(0)
    assert [r["prompt"] for r in found["test"]] == taken(source)[:5] and [r["prompt"] for r in found["train"]] == taken(source)[
        5:40
    ]
    (tmp_path / "set/test.jsonl").write_text((tmp_path / "set/train.jsonl").read_text().splitlines()[7] + "\n")
    leaked = replace(source, revision="")
    assert "7?" not in taken(leaked) and len(taken(leaked)) == 299


def options(folder, **more) -> dict:
    source = {"name": "hf", "path": str(folder), "prompt": "q", "answer": "a", "solution": "s", "stream": 50, **more}
    return {"source": source, "verifier": {"name": "exact", "after": "is "}}


def test_what_is_published_is_judged_as_of_a_whole_set(tmp_path, capsys):
    hub_set(tmp_path / "set", 300)
    with (tmp_path / "set/train.jsonl").open("a") as file:
        file.write('{"q": "wrong?", "a": "4", "s": "it is 5"}\n{"q": "none?", "a": " ", "s": "it is"}\n')
    streamed, manifest = run(tmp_path, "data", "streamed", **options(tmp_path / "set"), drop_unreadable=True)
    whole, other = run(tmp_path, "data", "whole", **options(tmp_path / "set", stream=0), drop_unreadable=True)
    assert manifest["facts"] == other["facts"] and manifest["facts"]["splits"]["train"] == 301
    assert manifest["facts"]["unreadable"]["train"] == 1 and manifest["facts"]["unsolved"]["train"] == 1
    bare = lambda folder: Counter(json.dumps(row | {"id": ""}) for row in read_jsonl(folder / "train.jsonl"))
    assert bare(streamed) == bare(whole)
    again, _ = run(tmp_path, "data", "again", **options(tmp_path / "set"), drop_unreadable=True)
    assert (again / "train.jsonl").read_bytes() == (streamed / "train.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"the answer ' ' is empty, or leave such rows out"):
        run(tmp_path, "data", "strict", **options(tmp_path / "set"))


def test_rows_that_stream_stand_alone(tmp_path):
    hub_set(tmp_path / "set", 10)
    source = {"name": "told", "hints": "marks", "of": options(tmp_path / "set")["source"]}
    with pytest.raises(UserError, match=r"nodes.data.source.of.stream: rows that stream can be gone through once"):
        graph(tmp_path, source=source)


def test_an_empty_stream_is_refused(tmp_path):
    hub_set(tmp_path / "set", 5)
    with pytest.raises(UserError, match="it yields no train rows: none passes its options"):
        run(tmp_path, "data", **options(tmp_path / "set", longest=2))


def test_lines_are_the_rows_of_a_file_that_stays_on_disk(tmp_path):
    file = tmp_path / "x.jsonl"
    rows = [{"prompt": "a\u2028b 🙂", "n": i} for i in range(5)]
    file.write_text("\ufeff" + "\r\n\n".join(json.dumps(row, ensure_ascii=i % 2 > 0) for i, row in enumerate(rows)) + "\n\n")
    lines = Lines(file)
    assert list(lines) == rows == read_jsonl(file) and len(lines) == 5
    assert lines[3] == rows[3] and lines[-1] == rows[-1] and list(lines[1:3]) == rows[1:3] and list(lines[:0]) == []
    with pytest.raises(IndexError):
        lines[5]
    file.write_text('{"a": 1}\n[]\n')
    with pytest.raises(UserError, match="the line at byte 9: expected a JSON object, found list"):
        list(Lines(file))


def test_rows_of_a_large_split_are_made_when_they_are_asked_for(tmp_path, monkeypatch):
    """The same batches as of rows that were all made before."""
    folder, manifest = run(tmp_path, "data", "sums", **SUMS)
    tokenizer = char_tokenizer(manifest["facts"]["alphabet"])
    pool = pools.PromptPool.load(folder, "train", tokenizer)
    before = pool.texts("corpus", "all", True)
    monkeypatch.setattr(pools, "AT_ONCE", 10)
    after = pool.texts("corpus", "all", True)
    assert isinstance(after, pools.Written) and len(after) == len(before) == 60
    for step in (1, 9):
        one, other = (fixed_rows(rows, 0, step, 16).rows for rows in (before, after))
        assert one.contexts == other.contexts and torch.equal(one.prompt_B, other.prompt_B)
        assert all(map(torch.equal, one.actions, other.actions))


MEASURED = """
import json, resource, sys, time
from pathlib import Path
from opd_steps.tasks.pool import PromptPool
from tests.unit.test_streams import options
from tests.unit.test_config_wrappers import graph
from tests.unit.test_tasks_steps import run
import datasets, torch
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
root = Path(sys.argv[1])
run(root, "data", "small", **options(root / "small", stream=1000))
begun, cpu = peak(), time.process_time()
folder, manifest = run(root, "data", "big", **options(root / "big", stream=1000))
written = peak()
pool = PromptPool.load(folder, "train", None)
some = [pool.rows[i]["prompt"] for i in range(0, len(pool), 997)]
print(json.dumps({"rows": len(pool), "before": begun, "written": written, "read": peak(), "cpu": time.process_time() - cpu}))
"""


def measured(root, rows: int) -> dict:
    """Peak memory, MiB, of a process that writes and reads a set of so many rows behind a small one; CPU seconds."""
    hub_set(root / "small", 2000)
    hub_set(root / "big", rows)
    found = subprocess.run([sys.executable, "-c", MEASURED, str(root)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1])


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """Of 100,000 rows it was the same: chunks of the file. Held as dicts of their texts, at more than a kilobyte a row, these are 200 MiB."""
    found = measured(tmp_path, BIG)
    assert found["rows"] == BIG and found["read"] - found["before"] < 100, found
