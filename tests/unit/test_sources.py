"""The files of the user that are part of what a result depends on."""

from __future__ import annotations

import pytest

from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.store import sources
from opd_steps.store.sources import hashes as hashes_of


def hashes(kind: str, options: dict, *known) -> dict:
    return hashes_of(KINDS[kind].sources(options), *known)


def test_a_folder_of_too_many_files_is_no_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MOST", 2)
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text("{}\n")
    named = {"source": {"name": "jsonl", "path": str(tmp_path)}}
    assert hashes("data", named)["source.path"].keys() == {"train.jsonl", "test.jsonl"}
    (tmp_path / "more").mkdir()
    (tmp_path / "more/x").write_text("")
    with pytest.raises(UserError, match="more than 2 files lie below this folder: expected that of one data set"):
        hashes("data", named)


def test_of_a_checkpoint_count_the_files_that_loading_reads(tmp_path):
    for name in ("config.json", "model.safetensors", "README.md", "pytorch_model.bin"):
        (tmp_path / name).write_text(name)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/x.json").write_text("{}")
    found = hashes("model", {"path": str(tmp_path), "tokenizer": "byte"})
    assert {key: sorted(files) for key, files in found.items()} == {"path": ["config.json", "model.safetensors"]}
    known = {"path": {name: entry | {"sha256": "known"} for name, entry in found["path"].items()}}
    assert hashes("model", {"path": str(tmp_path), "tokenizer": "byte"}, known, 2**63) == found  # small ones are read anew


def test_a_large_file_is_read_again_when_it_was_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SMALL", 3)
    (tmp_path / "config.json").write_text("{ }  ")
    options = {"path": str(tmp_path), "tokenizer": "byte"}
    true = hashes("model", options)["path"]["config.json"]
    known = {"path": {"config.json": true | {"sha256": "known"}}}
    assert hashes("model", options, known, 2**63)["path"]["config.json"]["sha256"] == "known"
    assert hashes("model", options, known, 0)["path"]["config.json"] == true
    (tmp_path / "config.json").write_text("{}    ")
    assert hashes("model", options, known, 2**63)["path"]["config.json"]["sha256"] not in ("known", true["sha256"])
