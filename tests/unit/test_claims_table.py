"""The page of all claims, written from a report's claims.json."""

from __future__ import annotations

import json
from pathlib import Path

from opd_steps.steps.report import run
from tests.claims_table import page
from tests.unit.fake_results import FakeResults


def test_every_verdict_has_its_words(tmp_path):
    fake = FakeResults(tmp_path)
    run(fake.plan_file, fake.root, Path(__file__).parents[2] / "workflow/report", tmp_path / "index.html")
    text = page(json.loads((tmp_path / "claims.json").read_text()), "2026-01-01", "abc", "A note.")
    assert "8 claims of 2 papers: 4 holds, 1 does not hold" in text
    assert "6 claims are tested, 5 of them decided." in text and "about 0.3 would be decided by chance alone; 5 survive" in text
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert rows["distillation beats its cold start"][3] == "**holds** ✓"
    assert rows["distillation beats its cold start"][6] == "left is higher: 5"
    assert rows["a claim that goes the wrong way"][3] == "*does not hold* ✓"
    assert rows["reverse KL falls"][3] == "open" and rows["nobody measured this"][3] == "not measured"
    assert rows["it gains nearly as much as it ever could"][2] == ">= 0.5 − 0.5"
    here = rows["a claim for students that are nearly perfect"]
    assert here[3] == "not testable here; needs student_sft.test/accuracy > 0.9, found 0.41"
    assert "- weak (not met): needs student_sft.test/accuracy > 0.9, found 0.41; a student that knows it all" in text
