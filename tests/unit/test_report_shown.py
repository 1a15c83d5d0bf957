"""What suites show: pictures, drafts and films of evaluations, teacher first, with the page's own bytes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from opd_steps.findings.judge import judge
from opd_steps.findings.results import Plan
from opd_steps.report import shown as module
from opd_steps.report.shown import shown
from opd_steps.report.site import render
from tests.unit.fake_results import FakeResults

TEMPLATE = Path(__file__).parents[2] / "workflow" / "report"
FILMS = [{"prompt": "12>", "right": True, "frames": [[[2, "2"], [0, "··"]], [[1, "2"], [2, "1<"], [0, "·"]]]}]
DRAFTS = [{"prompt": "12=", "blocks": [["1", "3<", "1"], ["23", "", ""]]}]


@pytest.fixture
def plan(tmp_path):
    fake = FakeResults(tmp_path, seeds=(0, 1))
    made = Plan.read(fake.plan_file, fake.root)
    for name, size in (("opd", 10), ("teacher", 20), ("student_sft", 10)):
        run = made.result(f"quickstart/evaluate/{name}/seed0")
        (run.folder / "pictures/test.png").write_bytes(name.encode() * size)
        facts = (
            run.manifest["facts"]
            | {"pictures": {"test": "pictures/test.png"}}
            | ({"drafts": {"test": DRAFTS}, "films": {"test": FILMS}} if name == "opd" else {})
        )
        run.__dict__["manifest"] = run.manifest | {"facts": facts}
    return made


def test_pictures_stand_side_by_side_teacher_first(plan, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 100)
    pictures, drafts, films = shown(plan, "quickstart")
    assert (pictures.kind, pictures.split, pictures.data, pictures.seed) == ("pictures", "test", "sums", 0)
    assert [(name, role) for name, role, _ in pictures.each] == [
        ("teacher", "teacher"),
        ("student_sft", "before"),
        ("opd", "after"),
    ]
    content = {name: address for name, _, (address, _) in pictures.each}
    assert base64.b64decode(content["opd"].partition("base64,")[2]) == b"opd" * 10
    assert content["teacher"] == "" and pictures.each[0][2][1] == "quickstart/evaluate/teacher/seed0/pictures/test.png"
    assert drafts.each == [("opd", "after", DRAFTS)] and films.each == [("opd", "after", FILMS)]


def test_the_page_holds_them(plan):
    claims = judge(plan)
    page = next(text for name, text in render(plan, claims, TEMPLATE).items() if "quickstart" in name)
    assert page.count('<img class="made" src="data:image/png;base64,') == 3
    assert "<ins>1</ins><del>3&lt;</del><b>1</b> <ins>23</ins> </code>" in page
    assert '<code class="draft">2<ins>1&lt;</ins><i>·</i></code>' in page


def test_a_page_without_any_says_nothing_of_them(tmp_path):
    fake = FakeResults(tmp_path, seeds=(0, 1))
    plan = Plan.read(fake.plan_file, fake.root)
    assert shown(plan, "vopd") == []
    assert not any('id="shown"' in page for page in render(plan, judge(plan), TEMPLATE).values())
