"""The files of docs/extend.md do what it says: written into a clone they are read, run and measured."""

from __future__ import annotations

import json
import re

from tests.pipeline.checkout import ROOT, Checkout

FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", (ROOT / "docs/extend.md").read_text(), re.S | re.M))


def test_the_page_adds_files_and_edits_none():
    assert len(FILES) == 5 and not [name for name in FILES if (ROOT / name).exists()]


def test_its_files_run(tmp_path):
    checkout = Checkout(tmp_path / "clone")
    for name, text in FILES.items():
        (checkout.folder / name).write_text(text)
    checkout.snakemake("all", "--config", "papers=[mine]")
    claims = json.loads((checkout.folder / "results/report/claims.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == ["bounded", "nearer", "told", "half"]
    assert {claim["direction"]["verdict"] for claim in claims} == {"not enough evidence"}, (
        claims
    )  # of one seed: both sides are there
